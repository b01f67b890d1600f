import AsyncHTTPClient
import Foundation
import Glibc

/// What a server says its file is: a download goes on where it broke only as long as it is the same.
struct DiskVersion: Sendable, Equatable {
    /// Bytes.
    var size: UInt64
    /// For If-Range (RFC 9110, section 13.1.5); nil where the server says nothing that is the same for the same bytes alone.
    var validator: String?

    init(size: UInt64, _ response: HTTPClientResponse) {
        self.size = size
        let headers = response.headers
        if let tag = headers.first(name: "etag"), tag.count > 2, tag.hasPrefix("\""), tag.hasSuffix("\"") {
            validator = tag
        } else if let text = headers.first(name: "last-modified"), let modified = Self.seconds(text),
            let now = headers.first(name: "date").flatMap(Self.seconds), now - modified >= Self.settled
        {
            // Within the same second a file may change twice (section 8.8.2.2); clocks of its servers may differ by more.
            validator = text
        }
    }

    private static let settled = 60

    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    /// Of the epoch; nil for all but the form that servers write: `Tue, 02 Jan 2024 10:00:00 GMT`.
    private static func seconds(_ date: String) -> Int? {
        let words = date.split(separator: " ")
        guard words.count == 6, words[5] == "GMT", let month = months.firstIndex(of: String(words[2])), let day = Int32(words[1]),
            let year = Int32(words[3]), (1970...9999).contains(year), (1...31).contains(day)
        else { return nil }
        let time = words[4].split(separator: ":").compactMap { Int32($0) }
        guard time.count == 3, time.allSatisfy({ (0...60).contains($0) }) else { return nil }
        var parts = tm()
        (parts.tm_year, parts.tm_mon, parts.tm_mday) = (year - 1900, Int32(month), day)
        (parts.tm_hour, parts.tm_min, parts.tm_sec) = (time[0], time[1], time[2])
        return timegm(&parts)
    }

    /// Whether an answer of a part is one of this version, from `offset` to the end.
    func holds(_ response: HTTPClientResponse, from offset: UInt64) -> Bool {
        guard response.headers.first(name: "content-range") == "bytes \(offset)-\(size - 1)/\(size)" else { return false }
        // A server that heeds If-Range sends the same validator again.
        let tag = response.headers.first(name: "etag")
        return tag == nil || validator?.hasPrefix("\"") != true || tag == validator
    }
}

import Glibc

/// When a server wants to be asked again (RFC 9110, section 10.2.3): seconds, or a date.
enum RetryAfter {
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    /// - Parameter now: seconds since 1970.
    static func wait(_ text: String?, now: Int = time(nil)) -> Duration? {
        guard let text else { return nil }
        if let seconds = UInt32(text) { return .seconds(Int64(seconds)) }
        return date(text).map { .seconds(max(0, Int64($0 - now))) }
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT`: of the three forms, the one that is sent.
    private static func date(_ text: String) -> Int? {
        let fields = text.split(separator: " ")
        guard text.utf8.count == 29, fields.count == 6, fields[5] == "GMT", let month = months.firstIndex(of: String(fields[2])) else {
            return nil
        }
        let times = fields[4].split(separator: ":").compactMap { Int32($0) }
        guard times.count == 3, let day = Int32(fields[1]), let year = Int32(fields[3]) else { return nil }
        // What the receiver sends is not to overflow the numbers of a date.
        guard (1970...9999).contains(year), (1...31).contains(day), (0...23).contains(times[0]), (0...59).contains(times[1]),
            (0...60).contains(times[2])
        else { return nil }
        var parts = tm()
        (parts.tm_mday, parts.tm_mon, parts.tm_year) = (day, Int32(month), year - 1900)
        (parts.tm_hour, parts.tm_min, parts.tm_sec) = (times[0], times[1], times[2])
        return timegm(&parts)
    }
}

import CZlib
import Foundation

/// Reads what OTLP's JSON encoding says.
enum OTLP {
    struct Record: Equatable {
        var time: String?
        var body: String?
        var attributes: [String: String]
    }

    /// Numbers of 64 bits are strings.
    static func attributes(_ owner: Any?) -> [String: String] {
        let list = (owner as? [String: Any])?["attributes"] as? [[String: Any]] ?? []
        let pairs = list.map { attribute in
            let value = attribute["value"] as? [String: String] ?? [:]
            return (attribute["key"] as? String ?? "", value["stringValue"] ?? value["intValue"] ?? "?")
        }
        return Dictionary(pairs) { _, last in "twice: \(last)" }
    }

    static func records(_ resource: [String: Any]) -> [Record] {
        let scopes = resource["scopeLogs"] as? [[String: Any]] ?? []
        return scopes.flatMap { $0["logRecords"] as? [[String: Any]] ?? [] }.map { record in
            Record(
                time: record["timeUnixNano"] as? String, body: (record["body"] as? [String: String])?["stringValue"],
                attributes: attributes(record))
        }
    }

    static func gunzip(_ bytes: [UInt8]) -> [UInt8]? {
        let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
        stream.initialize(to: z_stream())
        defer { stream.deallocate() }
        guard inflateInit2_(stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else { return nil }
        defer { inflateEnd(stream) }
        var (input, output) = (bytes, [UInt8](repeating: 0, count: 1 << 20))
        let count = input.withUnsafeMutableBufferPointer { input in
            output.withUnsafeMutableBufferPointer { output -> Int? in
                stream.pointee.next_in = input.baseAddress
                stream.pointee.avail_in = UInt32(input.count)
                stream.pointee.next_out = output.baseAddress
                stream.pointee.avail_out = UInt32(output.count)
                guard inflate(stream, Z_FINISH) == Z_STREAM_END else { return nil }
                return output.count - Int(stream.pointee.avail_out)
            }
        }
        return count.map { Array(output.prefix($0)) }
    }
}

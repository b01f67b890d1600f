import Foundation

/// Writes tars for tests, the impossible ones too: nothing is checked.
public struct TarBuilder: Sendable {
    public private(set) var bytes = Data()

    public init() {}

    public mutating func directory(_ path: String, mode: Int = 0o755, uid: Int = 0, gid: Int = 0, xattrs: [String: String] = [:]) {
        entry(path.hasSuffix("/") ? path : path + "/", type: "5", mode: mode, uid: uid, gid: gid, xattrs: xattrs)
    }

    public mutating func file(
        _ path: String, _ content: Data, mode: Int = 0o644, uid: Int = 0, gid: Int = 0, mtime: Int = 1_700_000_000,
        xattrs: [String: String] = [:]
    ) {
        entry(path, type: "0", mode: mode, uid: uid, gid: gid, mtime: mtime, content: content, xattrs: xattrs)
    }

    public mutating func file(_ path: String, _ content: String, mode: Int = 0o644) {
        file(path, Data(content.utf8), mode: mode)
    }

    public mutating func symlink(_ path: String, to target: String) {
        entry(path, type: "2", mode: 0o777, link: target)
    }

    public mutating func hardLink(_ path: String, to target: String) {
        entry(path, type: "1", link: target)
    }

    public mutating func characterDevice(_ path: String, major: Int, minor: Int) {
        entry(path, type: "3", mode: 0o600, device: (major, minor))
    }

    public mutating func fifo(_ path: String) {
        entry(path, type: "6", mode: 0o600)
    }

    /// Any member. Paths too long for the header, xattrs and large numbers go to a pax header before it.
    public mutating func entry(
        _ path: String, type: Character, mode: Int = 0o644, uid: Int = 0, gid: Int = 0, mtime: Int = 1_700_000_000, content: Data = Data(),
        announcedSize: Int? = nil, link: String = "", device: (major: Int, minor: Int) = (0, 0), xattrs: [String: String] = [:]
    ) {
        var pax = xattrs.map { ("SCHILY.xattr.\($0.key)", $0.value) }.sorted { $0.0 < $1.0 }
        if path.utf8.count > 100 { pax.append(("path", path)) }
        if link.utf8.count > 100 { pax.append(("linkpath", link)) }
        for (name, value) in [("uid", uid), ("gid", gid)] where value > 0o7777777 { pax.append((name, String(value))) }
        if !pax.isEmpty {
            let records = pax.map(Self.paxRecord).reduce(Data(), +)
            header("pax", type: "x", mode: 0o644, uid: 0, gid: 0, mtime: mtime, size: records.count, link: "", device: (0, 0))
            append(padded: records)
        }
        header(
            path, type: type, mode: mode, uid: min(uid, 0o7777777), gid: min(gid, 0o7777777), mtime: mtime,
            size: announcedSize ?? content.count, link: link, device: device)
        append(padded: content)
    }

    /// A pax header for the next member.
    public mutating func pax(_ records: [(name: String, value: String)]) {
        let content = records.map(Self.paxRecord).reduce(Data(), +)
        header("pax", type: "x", mode: 0o644, uid: 0, gid: 0, mtime: 0, size: content.count, link: "", device: (0, 0))
        append(padded: content)
    }

    /// The tar with its end mark.
    public func finished() -> Data {
        bytes + Data(count: 1024)
    }

    private mutating func header(
        _ path: String, type: Character, mode: Int, uid: Int, gid: Int, mtime: Int, size: Int, link: String,
        device: (major: Int, minor: Int)
    ) {
        var block = [UInt8](repeating: 0, count: 512)
        func put(_ text: String, _ offset: Int, _ length: Int) {
            for (index, byte) in text.utf8.prefix(length).enumerated() { block[offset + index] = byte }
        }
        func octal(_ value: Int, _ width: Int) -> String {
            let digits = String(value, radix: 8)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        put(path, 0, 100)
        put(octal(mode, 7), 100, 8)
        put(octal(uid, 7), 108, 8)
        put(octal(gid, 7), 116, 8)
        put(octal(size, 11), 124, 12)
        put(octal(mtime, 11), 136, 12)
        put("        ", 148, 8)
        put(String(type), 156, 1)
        put(link, 157, 100)
        put("ustar\u{0}00", 257, 8)
        put(octal(device.major, 7), 329, 8)
        put(octal(device.minor, 7), 337, 8)
        put(octal(block.reduce(0) { $0 + Int($1) }, 6) + "\u{0} ", 148, 8)
        bytes.append(contentsOf: block)
    }

    private mutating func append(padded content: Data) {
        bytes.append(content)
        bytes.append(Data(count: (512 - content.count % 512) % 512))
    }

    private static func paxRecord(_ name: String, _ value: String) -> Data {
        let body = " \(name)=\(value)\n"
        var length = body.utf8.count
        while String(length).utf8.count + body.utf8.count != length { length = String(length).utf8.count + body.utf8.count }
        return Data("\(length)\(body)".utf8)
    }
}

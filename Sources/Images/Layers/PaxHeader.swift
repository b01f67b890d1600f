import Errors

/// The records of a pax extended header (POSIX.1-2001, pax interchange format) that matter to a file system.
struct PaxHeader {
    var path: [UInt8]?
    var linkPath: [UInt8]?
    var size: UInt64?
    var uid: UInt64?
    var gid: UInt64?
    var mtime: (seconds: Int64, nanoseconds: UInt32)?
    var xattrs: [ExtendedAttribute] = []
    var sparse = PaxSparse()
    /// Where an attribute is in `xattrs`.
    private var xattrIndex: [[UInt8]: Int] = [:]

    private static let xattrPrefix = Array("SCHILY.xattr.".utf8)
    private static let maximumXattrs = 256
    private static let sparsePrefix = Array("GNU.sparse.".utf8)

    /// Adds the records of one header; later records win.
    mutating func merge(_ data: [UInt8]) throws {
        var rest = data[...]
        while let first = rest.first, first != 0 {
            // "<length> <keyword>=<value>\n", the length counting all of it.
            guard let space = rest.prefix(20).firstIndex(of: UInt8(ascii: " ")),
                let length = Int(String(decoding: rest[rest.startIndex..<space], as: UTF8.self)),
                length > space - rest.startIndex + 1, length <= rest.count,
                rest[rest.startIndex + length - 1] == UInt8(ascii: "\n")
            else { throw SwiftletError(.dataLoss, "tar: malformed pax header") }
            let record = rest[(space + 1)..<(rest.startIndex + length - 1)]
            guard let equals = record.firstIndex(of: UInt8(ascii: "=")) else {
                throw SwiftletError(.dataLoss, "tar: malformed pax header")
            }
            try set(Array(record[..<equals]), Array(record[(equals + 1)...]))
            rest = rest[(rest.startIndex + length)...]
        }
    }

    private mutating func set(_ keyword: [UInt8], _ value: [UInt8]) throws {
        if keyword.starts(with: Self.xattrPrefix) {
            let name = Array(keyword.dropFirst(Self.xattrPrefix.count))
            if let index = xattrIndex[name] {
                xattrs[index].value = value
                return
            }
            guard xattrs.count < Self.maximumXattrs else {
                throw SwiftletError(.dataLoss, "tar: an entry with more than \(Self.maximumXattrs) extended attributes")
            }
            xattrIndex[name] = xattrs.count
            xattrs.append(ExtendedAttribute(name: name, value: value))
            return
        }
        if keyword.starts(with: Self.sparsePrefix) {
            return try sparse.set(String(decoding: keyword.dropFirst(Self.sparsePrefix.count), as: UTF8.self), value)
        }
        switch String(decoding: keyword, as: UTF8.self) {
        case "path": path = try text(value)
        case "linkpath": linkPath = try text(value)
        case "size": size = try number(value)
        case "uid": uid = try number(value)
        case "gid": gid = try number(value)
        case "mtime": mtime = try time(value)
        default: break
        }
    }

    private func text(_ value: [UInt8]) throws -> [UInt8] {
        guard !value.contains(0) else { throw SwiftletError(.dataLoss, "tar: a path with a NUL in a pax header") }
        return value
    }

    private func number(_ value: [UInt8]) throws -> UInt64 {
        guard !value.isEmpty, value.allSatisfy(\.isDigit), let number = UInt64(String(decoding: value, as: UTF8.self)) else {
            throw SwiftletError(.dataLoss, "tar: bad number in a pax header")
        }
        return number
    }

    /// Decimal seconds with an optional fraction and sign.
    private func time(_ value: [UInt8]) throws -> (seconds: Int64, nanoseconds: UInt32) {
        let parts = value.split(separator: UInt8(ascii: "."), maxSplits: 1, omittingEmptySubsequences: false)
        guard let whole = parts.first, var seconds = Int64(String(decoding: whole, as: UTF8.self)), seconds > -(1 << 60),
            parts.dropFirst().allSatisfy({ $0.allSatisfy(\.isDigit) })
        else { throw SwiftletError(.dataLoss, "tar: bad time in a pax header") }
        var nanoseconds: UInt32 = 0
        for index in 0..<9 {
            let digit = parts.count > 1 && index < parts[1].count ? parts[1][parts[1].startIndex + index] - UInt8(ascii: "0") : 0
            nanoseconds = nanoseconds * 10 + UInt32(digit)
        }
        if whole.first == UInt8(ascii: "-"), nanoseconds > 0 {
            seconds -= 1
            nanoseconds = 1_000_000_000 - nanoseconds
        }
        return (seconds, nanoseconds)
    }
}

import Foundation

/// Writes a small qcow2 image field by field, wrong ones too.
public struct QcowBuilder: Sendable {
    public init() {}

    public var magic = Array("QFI".utf8) + [0xfb]
    public var version: UInt32 = 3
    public var backing: (offset: UInt64, length: UInt32) = (0, 0)
    public var clusterBits: UInt32 = 16
    public var size: UInt64 = 1 << 30
    public var encryption: UInt32 = 0
    public var l1: (entries: UInt32, offset: UInt64) = (16, 0x30000)
    public var refcounts: (offset: UInt64, clusters: UInt32) = (0x10000, 1)
    public var snapshots: (count: UInt32, offset: UInt64) = (0, 0)
    public var incompatible: UInt64 = 0
    public var autoclear: UInt64 = 0
    public var refcountOrder: UInt32 = 4
    public var headerLength: UInt32 = 104
    public var compression: UInt8 = 0
    /// Behind the header.
    public var extensions: [UInt8] = []
    /// Integers and bytes put over the rest: where, what.
    public var words: [(offset: Int, value: UInt64)] = []
    public var texts: [(offset: Int, text: String)] = []
    public var length = 4 << 16

    public static func header(extension type: UInt32, _ data: [UInt8], announcing length: UInt32? = nil) -> [UInt8] {
        bytes(type) + bytes(length ?? UInt32(data.count)) + data + [UInt8](repeating: 0, count: (8 - data.count % 8) % 8)
    }

    private static func bytes<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }

    public func built() -> [UInt8] {
        var head = magic + Self.bytes(version) + Self.bytes(backing.offset) + Self.bytes(backing.length) + Self.bytes(clusterBits)
        head += Self.bytes(size) + Self.bytes(encryption) + Self.bytes(l1.entries) + Self.bytes(l1.offset) + Self.bytes(refcounts.offset)
        head += Self.bytes(refcounts.clusters) + Self.bytes(snapshots.count) + Self.bytes(snapshots.offset)
        if version >= 3 {
            head += Self.bytes(incompatible) + Self.bytes(UInt64(0)) + Self.bytes(autoclear) + Self.bytes(refcountOrder)
            head += Self.bytes(headerLength)
            if headerLength > 104 { head += [compression] + [UInt8](repeating: 0, count: 7) }
        }
        head += extensions
        var file = head + [UInt8](repeating: 0, count: max(0, max(length, 4 << 16) - head.count))
        func put(_ bytes: [UInt8], _ offset: Int) { file.replaceSubrange(offset..<(offset + bytes.count), with: bytes) }
        put(Self.bytes(UInt64(0x20000)), 0x10000)
        for index in 0..<4 { put(Self.bytes(UInt16(1)), 0x20000 + index * 2) }
        for word in words { put(Self.bytes(word.value), word.offset) }
        for text in texts { put(Array(text.text.utf8), text.offset) }
        return Array(file.prefix(length))
    }

    public func with(_ change: (inout QcowBuilder) -> Void) -> QcowBuilder {
        var builder = self
        change(&builder)
        return builder
    }
}

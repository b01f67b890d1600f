/// Bytes in the order they came, taken off the front without moving the rest each time.
public struct ByteQueue: Sendable {
    private var storage: [UInt8] = []
    private var start = 0

    public init() {}

    public var count: Int { storage.count - start }
    public var isEmpty: Bool { count == 0 }

    /// - Precondition: `index` is below ``count``.
    public subscript(index: Int) -> UInt8 { storage[start + index] }

    /// The bytes in place, for a write to a descriptor.
    public func withUnsafeBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try storage.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[start...])) }
    }

    public mutating func append(_ bytes: some Collection<UInt8>) {
        compact()
        storage.append(contentsOf: bytes)
    }

    /// - Precondition: `length` is at most ``count``.
    public mutating func drop(_ length: Int) {
        start += length
        precondition(start <= storage.count)
        if start == storage.count {
            // Keeps a small buffer, gives a large one back.
            storage.removeAll(keepingCapacity: storage.capacity <= 64 << 10)
            start = 0
        }
    }

    /// - Precondition: `length` is at most ``count``.
    public mutating func take(_ length: Int) -> [UInt8] {
        let taken = Array(storage[start..<start + length])
        drop(length)
        return taken
    }

    /// Four bytes as one big-endian number.
    ///
    /// - Precondition: they are there.
    public func bigEndian32(at index: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 << 8 | UInt32(self[index + $1]) }
    }

    private mutating func compact() {
        guard start > 0, start >= storage.count / 2 else { return }
        storage.removeSubrange(..<start)
        start = 0
    }
}

extension [UInt8] {
    public mutating func append(bigEndian value: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
    }
}

extension Collection<UInt8> {
    /// The bytes as one big-endian number; at most eight of them.
    public func bigEndianInteger() -> UInt64 { reduce(0) { $0 << 8 | UInt64($1) } }
}

import Glibc

/// Owns the memory of one flat C structure and everything it points at, until it is released.
final class CMemory {
    private var blocks: [UnsafeMutableRawPointer] = []

    deinit {
        for block in blocks { free(block) }
    }

    /// A NUL-terminated copy.
    func string(_ text: String) -> UnsafePointer<CChar> { string(Array(text.utf8)) }

    /// A copy with a NUL behind it.
    func string(_ text: [UInt8]) -> UnsafePointer<CChar> {
        let bytes = text + [0]
        let copy = allocate(UInt8.self, count: bytes.count)
        copy.initialize(from: bytes, count: bytes.count)
        return UnsafeRawPointer(copy).assumingMemoryBound(to: CChar.self)
    }

    /// A copy of plain C values; nil for none.
    func array<Element: BitwiseCopyable>(_ values: [Element]) -> UnsafePointer<Element>? {
        guard !values.isEmpty else { return nil }
        let copy = allocate(Element.self, count: values.count)
        copy.initialize(from: values, count: values.count)
        return UnsafePointer(copy)
    }

    /// A NULL-terminated vector as execve(2) takes it.
    func vector(_ texts: [String]) -> UnsafePointer<UnsafePointer<CChar>?>? { vector(texts.map { Array($0.utf8) }) }

    func vector(_ texts: [[UInt8]]) -> UnsafePointer<UnsafePointer<CChar>?>? {
        array(texts.map { Optional(string($0)) } + [nil])
    }

    /// One value at a fixed address.
    func value<Value: BitwiseCopyable>(_ value: Value) -> UnsafePointer<Value>? { array([value]) }

    private func allocate<Element>(_: Element.Type, count: Int) -> UnsafeMutablePointer<Element> {
        guard let block = malloc(max(1, MemoryLayout<Element>.stride * count)) else {
            fatalError("out of memory for a container's description")
        }
        blocks.append(block)
        return block.bindMemory(to: Element.self, capacity: count)
    }
}

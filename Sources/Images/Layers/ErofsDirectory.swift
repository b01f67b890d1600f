/// The blocks of a directory: sorted entries (`struct erofs_dirent`), each block followed by its names.
struct ErofsDirectory {
    /// In byte order, without `.` and `..`.
    let sortedChildren: [(name: [UInt8], node: LayerNode)]
    /// Bytes; the last block counts only as far as it is used.
    let size: Int
    private let entries: [(name: [UInt8], node: LayerNode)]

    private static let entrySize = 12

    init(children: [[UInt8]: LayerNode], node: LayerNode, parent: LayerNode) {
        sortedChildren = children.map { ($0.key, $0.value) }.sorted { $0.0.lexicographicallyPrecedes($1.0) }
        let dots = [(name: Array(".".utf8), node: node), (name: Array("..".utf8), node: parent)]
        // Names may sort before "." too, so the two take their place among the others.
        let entries = (sortedChildren + dots).sorted { $0.name.lexicographicallyPrecedes($1.name) }
        var size = 0
        Self.eachBlock(entries) { range, used in
            size += range.upperBound == entries.count ? used : ErofsWriter.blockSize
        }
        self.entries = entries
        self.size = size
    }

    /// The encoded directory; every node must have its position.
    func bytes() -> [UInt8] {
        var bytes = LittleEndianBytes()
        Self.eachBlock(entries) { range, _ in
            let start = bytes.storage.count
            var nameOffset = range.count * Self.entrySize
            for (name, node) in entries[range] {
                bytes.append(node.position / 32)
                bytes.append(UInt16(nameOffset))
                bytes.append(Self.fileType(node))
                bytes.append(UInt8(0))
                nameOffset += name.count
            }
            for (name, _) in entries[range] { bytes.append(name) }
            if range.upperBound < entries.count {
                bytes.append([UInt8](repeating: 0, count: start + ErofsWriter.blockSize - bytes.storage.count))
            }
        }
        return bytes.storage
    }

    /// Calls `body` with the entries of each block and the bytes they take.
    private static func eachBlock(_ entries: [(name: [UInt8], node: LayerNode)], _ body: (Range<Int>, Int) -> Void) {
        var first = 0
        var used = 0
        for index in entries.indices {
            let needed = entrySize + entries[index].name.count
            if used + needed > ErofsWriter.blockSize {
                body(first..<index, used)
                first = index
                used = 0
            }
            used += needed
        }
        body(first..<entries.count, used)
    }

    /// EROFS_FT_*, the same numbers as FT_* of the kernel.
    private static func fileType(_ node: LayerNode) -> UInt8 {
        switch node.content {
        case .file: 1
        case .directory: 2
        case .device(let character, _, _): character ? 3 : 4
        case .fifo: 5
        case .symlink: 7
        }
    }
}

/// Bytes growing at the end, integers least significant byte first.
struct LittleEndianBytes {
    private(set) var storage: [UInt8] = []

    mutating func append(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { storage.append(contentsOf: $0) }
    }

    mutating func append(_ bytes: [UInt8]) {
        storage.append(contentsOf: bytes)
    }
}

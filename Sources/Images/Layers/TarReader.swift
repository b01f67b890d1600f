import Errors

/// Reads ustar, pax and GNU tars from a stream, trusting nothing in them.
///
/// Usage: `next()`, then `readData` for a file; what is not read is skipped.
final class TarReader {
    private let stream: any ByteStream
    private var chunk = UnsafeRawBufferPointer(start: nil, count: 0)
    private var block = [UInt8](repeating: 0, count: 512)
    private var remainingData: UInt64 = 0
    private var padding: UInt64 = 0
    private var sparse: SparseMap?
    private var finished = false
    /// Offset of the next unread byte in the stream.
    private(set) var offset: UInt64 = 0

    /// A pax header or GNU long name has no business being larger. Bytes.
    static let maximumHeaderBytes = 1 << 20
    /// Extended headers before one member; archivers write three at most.
    private static let maximumExtendedHeaders = 16

    init(_ stream: any ByteStream) {
        self.stream = stream
    }

    /// The next member, or nil at the end of the archive.
    ///
    /// - Throws: `SwiftletError(.dataLoss)` for a damaged tar.
    func next() throws -> TarEntry? {
        guard !finished else { return nil }
        try skip(remainingData + padding)
        remainingData = 0
        padding = 0
        sparse = nil
        var pax = PaxHeader()
        var longPath: [UInt8]?
        var longLink: [UInt8]?
        var extendedHeaders = 0
        while true {
            guard try readBlock() else {
                finished = true
                return nil
            }
            if block.allSatisfy({ $0 == 0 }) {
                if try readBlock(), !block.allSatisfy({ $0 == 0 }) { throw damaged("a zero block amid the archive") }
                finished = true
                return nil
            }
            try verifyChecksum()
            let size = try number(124..<136, "size")
            extendedHeaders += 1
            guard extendedHeaders <= Self.maximumExtendedHeaders else {
                throw damaged("more than \(Self.maximumExtendedHeaders) extended headers before one entry")
            }
            switch block[156] {
            case UInt8(ascii: "x"): try pax.merge(try readHeaderData(size))
            case UInt8(ascii: "g"): try skip(padded(size))
            case UInt8(ascii: "L"): longPath = Array(try readHeaderData(size).prefix { $0 != 0 })
            case UInt8(ascii: "K"): longLink = Array(try readHeaderData(size).prefix { $0 != 0 })
            default: return try entry(size: size, pax: pax, longPath: longPath, longLink: longLink)
            }
        }
    }

    /// Hands the current file's data to `body`, piece by piece.
    func readData(_ body: (DataPiece) throws -> Void) throws {
        guard let sparse else { return try readStored(remainingData, body) }
        var position: UInt64 = 0
        for range in sparse.ranges {
            if range.offset > position { try body(.zeros(range.offset - position)) }
            try readStored(range.length, body)
            position = range.offset + range.length
        }
        if sparse.size > position { try body(.zeros(sparse.size - position)) }
    }

    private func readStored(_ count: UInt64, _ body: (DataPiece) throws -> Void) throws {
        var count = count
        while count > 0 {
            guard try fill() else { throw damaged("it ends within the data of a file") }
            let piece = take(Int(min(UInt64(chunk.count), count)))
            count -= UInt64(piece.count)
            remainingData -= UInt64(piece.count)
            try body(.bytes(piece))
        }
    }

    /// Reads the rest of the stream (padding after the end mark), so that a digest over it is complete.
    func drain() throws {
        repeat { _ = take(chunk.count) } while try fill()
    }

    // MARK: Headers

    private func entry(size: UInt64, pax: PaxHeader, longPath: [UInt8]?, longLink: [UInt8]?) throws -> TarEntry {
        var path = field(0..<100)
        if Array(block[257..<263]) == Array("ustar".utf8) + [0] {
            let prefix = field(345..<500)
            if !prefix.isEmpty { path = prefix + [UInt8(ascii: "/")] + path }
        }
        let isOldSparse = block[156] == UInt8(ascii: "S")
        let sparseFormat = isOldSparse ? nil : try pax.sparse.format()
        var entry = TarEntry(kind: .file, path: (sparseFormat != nil ? pax.sparse.name : nil) ?? pax.path ?? longPath ?? path)
        entry.linkPath = pax.linkPath ?? longLink ?? field(157..<257)
        entry.kind = try kind(block[156], path: entry.path)
        let displayPath = entry.displayPath
        entry.mode = UInt16(try number(100..<108, "mode") & 0o7777)
        entry.uid = try identity(pax.uid ?? number(108..<116, "uid"), "uid", displayPath)
        entry.gid = try identity(pax.gid ?? number(116..<124, "gid"), "gid", displayPath)
        entry.mtime = try pax.mtime?.seconds ?? signedNumber(136..<148)
        entry.mtimeNanoseconds = pax.mtime?.nanoseconds ?? 0
        if entry.kind == .characterDevice || entry.kind == .blockDevice {
            entry.deviceMajor = try identity(number(329..<337, "device"), "device", displayPath)
            entry.deviceMinor = try identity(number(337..<345, "device"), "device", displayPath)
        }
        entry.xattrs = pax.xattrs
        let dataSize = pax.size ?? size
        guard dataSize < 1 << 62 else { throw damaged("entry \(displayPath) announces \(dataSize) bytes") }
        if entry.kind == .file {
            entry.size = dataSize
            remainingData = dataSize
            padding = padded(dataSize) - dataSize
        }
        do {
            if isOldSparse {
                sparse = try oldSparseMap()
            } else if let sparseFormat {
                guard entry.kind == .file else { throw SparseMap.damaged("it is no file") }
                let ranges = try sparseFormat == .mapInHeader ? pax.sparse.rangesInHeader() : rangesInData()
                sparse = try SparseMap(ranges, size: pax.sparse.fileSize(stored: dataSize))
            }
        } catch let error as SwiftletError {
            throw error.during("entry \(displayPath)")
        }
        if let sparse {
            guard sparse.dataBytes == remainingData, sparse.size < 1 << 62 else {
                throw damaged("entry \(displayPath): \(remainingData) bytes of data where its map has \(sparse.dataBytes)")
            }
            entry.sparse = sparse
            entry.size = sparse.size
        }
        return entry
    }

    // MARK: Sparse files

    /// The map of a GNU sparse member: four ranges in the header, 21 in each block that follows. GNU tar's manual, "Basic Tar Format",
    /// struct oldgnu_header and struct sparse_header.
    private func oldSparseMap() throws -> SparseMap {
        guard Array(block[257..<265]) == Array("ustar  ".utf8) + [0] else { throw SparseMap.damaged("the header is not GNU tar's") }
        let size = try number(483..<495, "size")
        var ranges: [SparseMap.Range] = []
        var blocks = 0
        var (start, count, isExtended) = (386, 4, block[482] != 0)
        while true {
            for index in 0..<count {
                let at = start + index * 24
                guard block[at] != 0 else { break }
                ranges.append(
                    SparseMap.Range(offset: try number(at..<(at + 12), "offset"), length: try number((at + 12)..<(at + 24), "length")))
            }
            guard isExtended else { return try SparseMap(ranges, size: size) }
            blocks += 1
            guard blocks <= SparseMap.maximumRanges / 21 else {
                throw SparseMap.damaged("more than \(SparseMap.maximumRanges) ranges")
            }
            guard try readBlock() else { throw damaged("it ends within a header") }
            (start, count, isExtended) = (0, 21, block[504] != 0)
        }
    }

    /// The map of pax format 1.0, which is padded to blocks in front of the data: lines with the number of ranges, then with an offset
    /// and a length for each.
    private func rangesInData() throws -> [SparseMap.Range] {
        var text: ArraySlice<UInt8> = []
        func line() throws -> UInt64 {
            var digits: [UInt8] = []
            while true {
                if let end = text.firstIndex(of: UInt8(ascii: "\n")) {
                    digits += text[..<end]
                    text = text[(end + 1)...]
                    return try SparseMap.number(digits)
                }
                digits += text
                guard digits.count <= 20, remainingData >= 512, try readBlock() else {
                    throw SparseMap.damaged("its map is cut off")
                }
                remainingData -= 512
                text = block[...]
            }
        }
        let count = try line()
        guard count <= UInt64(SparseMap.maximumRanges) else { throw SparseMap.damaged("more than \(SparseMap.maximumRanges) ranges") }
        var numbers: [UInt64] = []
        for _ in 0..<(2 * count) { numbers.append(try line()) }
        return try SparseMap.ranges(numbers)
    }

    private func kind(_ flag: UInt8, path: [UInt8]) throws -> TarEntry.Kind {
        switch flag {
        case UInt8(ascii: "S"): .file
        case 0, UInt8(ascii: "0"), UInt8(ascii: "7"): path.last == UInt8(ascii: "/") ? .directory : .file
        case UInt8(ascii: "1"): .hardLink
        case UInt8(ascii: "2"): .symlink
        case UInt8(ascii: "3"): .characterDevice
        case UInt8(ascii: "4"): .blockDevice
        case UInt8(ascii: "5"): .directory
        case UInt8(ascii: "6"): .fifo
        default:
            throw SwiftletError(
                .dataLoss, "tar: entry \(TarEntry(kind: .file, path: path).displayPath) has the unknown type \(flag)")
        }
    }

    private func identity(_ value: UInt64, _ name: String, _ path: String) throws -> UInt32 {
        guard let value = UInt32(exactly: value) else { throw damaged("entry \(path): \(name) \(value) is out of range") }
        return value
    }

    private func field(_ range: Range<Int>) -> [UInt8] {
        Array(block[range].prefix { $0 != 0 })
    }

    /// Octal digits, or big-endian binary with the top bit set (GNU).
    private func number(_ range: Range<Int>, _ name: String) throws -> UInt64 {
        let bytes = block[range]
        guard let first = bytes.first else { return 0 }
        if first & 0x80 != 0 {
            guard first == 0x80, bytes.dropFirst().dropLast(8).allSatisfy({ $0 == 0 }) else { throw damaged("bad \(name) in a header") }
            return bytes.suffix(min(8, bytes.count - 1)).reduce(0) { $0 << 8 | UInt64($1) }
        }
        let digits = bytes.drop { $0 == UInt8(ascii: " ") }.prefix { $0 != 0 && $0 != UInt8(ascii: " ") }
        var value: UInt64 = 0
        for digit in digits {
            guard UInt8(ascii: "0")...UInt8(ascii: "7") ~= digit else { throw damaged("bad \(name) in a header") }
            value = value << 3 | UInt64(digit & 7)
        }
        return value
    }

    private func signedNumber(_ range: Range<Int>) throws -> Int64 {
        if block[range.lowerBound] == 0xff {
            return block[range].suffix(8).reduce(Int64(-1)) { $0 << 8 | Int64($1) }
        }
        return Int64(clamping: try number(range, "time"))
    }

    private func verifyChecksum() throws {
        let expected = try number(148..<156, "checksum")
        var sum: UInt64 = 8 * 32
        for index in 0..<512 where !(148..<156).contains(index) { sum += UInt64(block[index]) }
        guard sum == expected else { throw damaged("a header's checksum is wrong at offset \(offset - 512)") }
    }

    // MARK: The stream

    private func readHeaderData(_ size: UInt64) throws -> [UInt8] {
        guard size <= UInt64(Self.maximumHeaderBytes) else { throw damaged("an extended header of \(size) bytes") }
        var data: [UInt8] = []
        data.reserveCapacity(Int(size))
        while data.count < Int(size) {
            guard try fill() else { throw damaged("it ends within a header") }
            data.append(contentsOf: take(min(chunk.count, Int(size) - data.count)))
        }
        try skip(padded(size) - size)
        return data
    }

    /// False at the end of the stream.
    private func readBlock() throws -> Bool {
        var filled = 0
        while filled < 512 {
            guard try fill() else {
                if filled == 0 { return false }
                throw damaged("it ends within a header")
            }
            let piece = take(min(chunk.count, 512 - filled))
            block.withUnsafeMutableBytes { UnsafeMutableRawBufferPointer(rebasing: $0[filled...]).copyMemory(from: piece) }
            filled += piece.count
        }
        return true
    }

    private func skip(_ count: UInt64) throws {
        var count = count
        while count > 0 {
            guard try fill() else { throw damaged("it ends within an entry") }
            count -= UInt64(take(Int(min(UInt64(chunk.count), count))).count)
        }
    }

    private func fill() throws -> Bool {
        while chunk.isEmpty {
            guard let next = try stream.next() else { return false }
            chunk = next
        }
        return true
    }

    private func take(_ count: Int) -> UnsafeRawBufferPointer {
        let piece = UnsafeRawBufferPointer(rebasing: chunk[..<count])
        chunk = UnsafeRawBufferPointer(rebasing: chunk[count...])
        offset += UInt64(count)
        return piece
    }

    private func padded(_ size: UInt64) -> UInt64 {
        size > UInt64.max - 511 ? size : (size + 511) & ~511
    }

    private func damaged(_ what: String) -> SwiftletError {
        SwiftletError(.dataLoss, "tar: \(what)")
    }
}

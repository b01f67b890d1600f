import Errors

/// Where the data of a sparse file lies; between the ranges are zeros that the tar does not hold.
struct SparseMap: Sendable, Equatable {
    struct Range: Sendable, Equatable {
        /// Bytes from the beginning of the file.
        var offset: UInt64
        var length: UInt64
    }

    /// In order, not overlapping, within the file.
    let ranges: [Range]
    /// Bytes of the file with its holes.
    let size: UInt64
    /// Bytes of the file without its holes: what the tar holds.
    let dataBytes: UInt64

    /// More than an archiver finds in files people make. Memory for a map, 16 bytes each.
    static let maximumRanges = 1 << 18

    /// - Throws: `SwiftletError(.dataLoss)` for ranges that overlap, are out of order or lie beyond the end: those Go's archive/tar
    ///   refuses.
    init(_ ranges: [Range], size: UInt64) throws {
        var end: UInt64 = 0
        var dataBytes: UInt64 = 0
        for range in ranges {
            let (last, overflows) = range.offset.addingReportingOverflow(range.length)
            guard !overflows, last <= size, range.offset >= end else { throw Self.damaged("ranges overlap or lie beyond the end") }
            end = last
            dataBytes += range.length
        }
        self.ranges = ranges
        self.size = size
        self.dataBytes = dataBytes
    }

    /// Takes offsets and lengths in turn.
    static func ranges(_ numbers: [UInt64]) throws -> [Range] {
        guard numbers.count.isMultiple(of: 2) else { throw damaged("an offset without a length") }
        guard numbers.count / 2 <= maximumRanges else { throw damaged("more than \(maximumRanges) ranges") }
        return stride(from: 0, to: numbers.count, by: 2).map { Range(offset: numbers[$0], length: numbers[$0 + 1]) }
    }

    static func number(_ digits: some Collection<UInt8>) throws -> UInt64 {
        guard !digits.isEmpty, digits.allSatisfy(\.isDigit), let number = UInt64(String(decoding: digits, as: UTF8.self)) else {
            throw damaged("bad number")
        }
        return number
    }

    static func damaged(_ what: String) -> SwiftletError {
        SwiftletError(.dataLoss, "tar: sparse file: \(what)")
    }
}

/// The `GNU.sparse.` records of a pax header: GNU tar's manual, "Storing Sparse Files", PAX formats 0.0, 0.1 and 1.0.
struct PaxSparse {
    enum Format { case mapInHeader, mapInData }

    private var major: String?
    private var minor: String?
    private var map: [UInt8]?
    private var blockCount: UInt64?
    /// Format 0.0: offsets and lengths in turn.
    private var numbers: [UInt64] = []
    private var isPresent = false
    private(set) var name: [UInt8]?
    private(set) var size: UInt64?
    private var realSize: UInt64?

    /// - Parameter key: without `GNU.sparse.`.
    mutating func set(_ key: String, _ value: [UInt8]) throws {
        isPresent = true
        switch key {
        case "major": major = String(decoding: value.prefix(20), as: UTF8.self)
        case "minor": minor = String(decoding: value.prefix(20), as: UTF8.self)
        case "name":
            guard !value.contains(0) else { throw SparseMap.damaged("a name with a NUL") }
            name = value
        case "size": size = try SparseMap.number(value)
        case "realsize": realSize = try SparseMap.number(value)
        case "map": map = value
        case "numblocks": blockCount = try SparseMap.number(value)
        case "offset", "numbytes":
            guard numbers.count.isMultiple(of: 2) == (key == "offset") else { throw SparseMap.damaged("offsets and lengths out of order") }
            guard numbers.count < 2 * SparseMap.maximumRanges else {
                throw SparseMap.damaged("more than \(SparseMap.maximumRanges) ranges")
            }
            numbers.append(try SparseMap.number(value))
        default: break
        }
    }

    /// Nil when the file is not sparse.
    ///
    /// - Throws: `SwiftletError(.unimplemented)` for a version nobody has defined.
    func format() throws -> Format? {
        guard isPresent else { return nil }
        switch (major, minor) {
        case ("1", "0"): return .mapInData
        case ("0", "0"), ("0", "1"): return .mapInHeader
        // The first formats had no version.
        case (nil, nil): return map != nil || !numbers.isEmpty ? .mapInHeader : nil
        default:
            throw SwiftletError(.unimplemented, "sparse files of version \(printable("\(major ?? "").\(minor ?? "")")) are not known")
        }
    }

    /// - Parameter stored: the member's size in the tar, which stands in when no record has the file's.
    func fileSize(stored: UInt64) -> UInt64 { size ?? realSize ?? stored }

    /// The map of format 0.0 or 0.1.
    func rangesInHeader() throws -> [SparseMap.Range] {
        guard let map else { return try SparseMap.ranges(numbers) }
        let parts = map.isEmpty ? [] : map.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
        guard parts.count / 2 <= SparseMap.maximumRanges else { throw SparseMap.damaged("more than \(SparseMap.maximumRanges) ranges") }
        guard let blockCount, UInt64(parts.count) == blockCount.multipliedReportingOverflow(by: 2).partialValue else {
            throw SparseMap.damaged("its map has not as many ranges as it says")
        }
        return try SparseMap.ranges(parts.map { try SparseMap.number($0) })
    }
}

import Errors
import Glibc

/// Where the last lines of a log file begin, found from its end. A line of several pieces is one, whatever stands between them.
struct LogTail: Equatable {
    struct Source: Equatable {
        /// Offset of the first piece that is meant.
        var start: UInt64
        /// Whether the source is within a line there of which no piece is meant.
        var isWithinLine = false
    }

    private(set) var stdout: Source
    private(set) var stderr: Source
    /// Offset of the first line in another form that is meant.
    private(set) var malformed: UInt64

    var start: UInt64 { min(stdout.start, stderr.start, malformed) }

    private static let block: UInt64 = 256 << 10
    /// How far before the lines found so far the beginning of one of them is looked for: a source that writes seldom would make this read
    /// all of a file.
    static let lookBack: UInt64 = 4 << 20

    /// - Parameter end: where the file ends.
    /// - Throws: `SwiftletError` when the file cannot be read.
    init(lines: Int, of descriptor: Int32, end: UInt64, _ path: String) throws {
        let file = File(descriptor: descriptor, path: path)
        var search = Search(lines: lines)
        var (block, blockStart) = ([UInt8](), end)
        // Of the newline that ends the line whose beginning is looked for.
        var lineEnd: UInt64?
        while blockStart > 0, !search.isOver {
            let size = min(Self.block, blockStart)
            blockStart -= size
            block = try file.bytes(blockStart, Int(size))
            var searched = block.count
            while !search.isOver, let index = block.lastNewline(before: searched) {
                searched = index
                let newline = blockStart + UInt64(index)
                if let lineEnd {
                    search.visit(try file.head(newline + 1, end: lineEnd, block, at: blockStart), at: newline + 1)
                } else {
                    search.end = newline + 1
                }
                lineEnd = newline
            }
            search.reach(blockStart)
        }
        if blockStart == 0, let lineEnd, !search.isOver { search.visit(try file.head(0, end: lineEnd, block, at: 0), at: 0) }
        stdout = search.stdout.found(end: search.end)
        stderr = search.stderr.found(end: search.end)
        malformed = search.malformed ?? search.end
    }
}

/// What is known of a log's last lines, read backwards.
private struct Search {
    struct Source {
        private(set) var start: UInt64?
        private var isWithinLine = false
        private var isSeen = false
        /// Whether pieces of the first line that is meant may stand before those found.
        private var isOpen = false

        /// Nothing that stands further in front changes what is found.
        var isResolved: Bool { isSeen && !isOpen }

        mutating func visit(isPartial: Bool, at offset: UInt64, _ remaining: inout Int) {
            if isPartial && isSeen {
                if isOpen { start = offset }
                return
            }
            // The last piece of a line, be it ended or not.
            isOpen = remaining > 0
            if isOpen {
                remaining -= 1
                start = offset
            } else if !isSeen {
                isWithinLine = isPartial
            }
            isSeen = true
        }

        func found(end: UInt64) -> LogTail.Source { LogTail.Source(start: start ?? end, isWithinLine: isWithinLine) }
    }

    private var remaining: Int
    private(set) var stdout = Source()
    private(set) var stderr = Source()
    private(set) var malformed: UInt64?
    /// Behind the last line.
    var end: UInt64 = 0
    private(set) var isOver = false

    init(lines: Int) { remaining = lines }

    /// - Parameter line: its first bytes at least.
    mutating func visit(_ line: [UInt8], at offset: UInt64) {
        if let parsed = CRILogLine(line[...]) {
            switch parsed.source {
            case .stdout: stdout.visit(isPartial: parsed.isPartial, at: offset, &remaining)
            case .stderr: stderr.visit(isPartial: parsed.isPartial, at: offset, &remaining)
            }
        } else if remaining > 0 {
            remaining -= 1
            malformed = offset
        }
        reach(offset)
    }

    /// All behind `offset` has been seen.
    mutating func reach(_ offset: UInt64) {
        guard remaining == 0 else { return }
        let first = min(stdout.start ?? end, stderr.start ?? end, malformed ?? end)
        isOver = stdout.isResolved && stderr.isResolved || offset + LogTail.lookBack < first
    }
}

private struct File {
    let descriptor: Int32
    let path: String

    /// Of a line, enough to tell its source and tag.
    private static let head = 256

    /// Fewer than asked for where the file has become shorter.
    func bytes(_ offset: UInt64, _ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let read = bytes[done...].withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, off_t(offset) + off_t(done)) }
            if read < 0, errno == EINTR { continue }
            guard read >= 0 else { throw SwiftletError.system("reading the log \(path)") }
            if read == 0 { break }
            done += read
        }
        bytes.removeLast(count - done)
        return bytes
    }

    /// The first bytes of the line between the offsets, from `block`, which stands at `blockStart`, where it holds them.
    func head(_ start: UInt64, end: UInt64, _ block: [UInt8], at blockStart: UInt64) throws -> [UInt8] {
        let count = Int(min(end - start, UInt64(Self.head)))
        let index = Int(start - blockStart)
        return index + count <= block.count ? Array(block[index..<index + count]) : try bytes(start, count)
    }
}

extension [UInt8] {
    fileprivate func lastNewline(before end: Int) -> Int? {
        withUnsafeBytes { buffer in buffer[..<end].lastIndex(of: 0x0A) }
    }
}

/// Turns the bytes of a log file, and of those that follow it, back into what the container wrote.
struct CRILogDecoder {
    enum Piece: Equatable {
        case output(CRILogLine.Source, [UInt8])
        /// A line in another form, with its newline.
        case malformed([UInt8])
    }

    /// A line without end is given up beyond this many bytes; swiftlet-streamd's own are 16 KiB at most.
    static let longestLine = 1 << 20

    private let timestamps: Bool
    private var filter: LogLineFilter
    private var unfinished: [UInt8] = []
    /// Where the file's next whole line begins.
    private var offset: UInt64 = 0

    init(_ selection: LogSelection = LogSelection()) {
        timestamps = selection.timestamps
        filter = LogLineFilter(since: selection.since)
    }

    /// The bytes that follow are the first of another file.
    mutating func startFile() {
        unfinished.removeAll()
        offset = 0
        filter.tail = nil
    }

    /// The bytes that follow are those of the file's last lines, as far as they have been found.
    mutating func startTail(_ tail: LogTail) {
        unfinished.removeAll()
        offset = tail.start
        filter.startTail(tail)
    }

    /// Takes the file's next bytes; a line counts when its newline has come. Lines of one source that follow each other
    /// come as one piece.
    mutating func decode(_ bytes: [UInt8]) -> [Piece] {
        var run = Run()
        var rest = bytes[...]
        while let newline = rest.firstIndex(of: 0x0A) {
            if unfinished.isEmpty {
                add(rest[..<newline], to: &run)
            } else {
                let line = unfinished + rest[..<newline]
                unfinished.removeAll(keepingCapacity: true)
                add(line[...], to: &run)
            }
            rest = rest[(newline + 1)...]
        }
        unfinished += rest
        if unfinished.count > Self.longestLine {
            if filter.showsMalformed(at: offset) { run.add(malformed: unfinished) }
            offset += UInt64(unfinished.count)
            unfinished.removeAll()
        }
        return run.finish()
    }

    private mutating func add(_ line: ArraySlice<UInt8>, to run: inout Run) {
        defer { offset += UInt64(line.count) + 1 }
        guard let parsed = CRILogLine(line) else {
            if filter.showsMalformed(at: offset) { run.add(malformed: line) }
            return
        }
        switch filter.part(parsed, at: offset) {
        case .none: break
        case .beginning: run.add(parsed, withTimestamp: timestamps)
        case .continuation: run.add(parsed, withTimestamp: false)
        }
    }

    /// Pieces in the making: the last one still grows.
    private struct Run {
        private var pieces: [Piece] = []
        private var source: CRILogLine.Source?
        private var content: [UInt8] = []

        mutating func add(_ line: CRILogLine, withTimestamp: Bool) {
            if line.source != source { flush() }
            source = line.source
            if withTimestamp {
                content += line.timestamp
                content.append(UInt8(ascii: " "))
            }
            content += line.content
            if !line.isPartial { content.append(0x0A) }
        }

        mutating func add(malformed line: some Collection<UInt8>) {
            flush()
            pieces.append(.malformed(line + [0x0A]))
        }

        consuming func finish() -> [Piece] {
            flush()
            return pieces
        }

        private mutating func flush() {
            if let source, !content.isEmpty { pieces.append(.output(source, content)) }
            source = nil
            content = []
        }
    }
}

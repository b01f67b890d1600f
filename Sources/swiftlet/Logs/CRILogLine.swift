/// One line of a container's log file: `<RFC 3339 time> <stdout|stderr> <P|F[:more tags]> <content>`.
/// (Kubernetes, "CRI logging": the format that the kubelet reads.)
struct CRILogLine: Equatable {
    enum Source: String, CaseIterable {
        case stdout
        case stderr
    }

    /// As the file has it.
    let timestamp: ArraySlice<UInt8>
    let source: Source
    /// The container's line goes on in the next piece of the same source.
    let isPartial: Bool
    let content: ArraySlice<UInt8>

    /// - Parameter line: without its newline.
    /// - Returns: nil when it has another form.
    init?(_ line: ArraySlice<UInt8>) {
        let blank = UInt8(ascii: " ")
        guard let first = line.firstIndex(of: blank), line[..<first].contains(UInt8(ascii: "T")) else { return nil }
        guard let second = line[(first + 1)...].firstIndex(of: blank) else { return nil }
        let tagEnd = line[(second + 1)...].firstIndex(of: blank) ?? line.endIndex
        let tag = line[(second + 1)..<tagEnd]
        guard let mark = tag.first, tag.count == 1 || tag.dropFirst().first == UInt8(ascii: ":") else { return nil }
        guard let source = Source.allCases.first(where: { line[(first + 1)..<second].elementsEqual($0.rawValue.utf8) }) else { return nil }
        guard mark == UInt8(ascii: "P") || mark == UInt8(ascii: "F") else { return nil }
        timestamp = line[..<first]
        self.source = source
        isPartial = mark == UInt8(ascii: "P")
        content = line[min(tagEnd + 1, line.endIndex)...]
    }
}

/// Turns the bytes of a log file back into what the container wrote.
struct CRILogDecoder {
    enum Piece: Equatable {
        case output(CRILogLine.Source, [UInt8])
        /// A line in another form, with its newline.
        case malformed([UInt8])
    }

    /// A line without end is given up beyond this many bytes; swiftletd's own are 16 KiB at most.
    static let longestLine = 1 << 20

    private var unfinished: [UInt8] = []

    /// Takes the file's next bytes; a line counts when its newline has come. Lines of one source that follow each other
    /// come as one piece.
    mutating func decode(_ bytes: [UInt8]) -> [Piece] {
        var run = Run()
        var rest = bytes[...]
        while let newline = rest.firstIndex(of: 0x0A) {
            if unfinished.isEmpty {
                run.add(rest[..<newline])
            } else {
                unfinished += rest[..<newline]
                run.add(unfinished[...])
                unfinished.removeAll(keepingCapacity: true)
            }
            rest = rest[(newline + 1)...]
        }
        unfinished += rest
        if unfinished.count > Self.longestLine {
            run.add(malformed: unfinished[...])
            unfinished.removeAll()
        }
        return run.finish()
    }

    /// Pieces in the making: the last one still grows.
    private struct Run {
        private var pieces: [Piece] = []
        private var source: CRILogLine.Source?
        private var content: [UInt8] = []

        mutating func add(_ line: ArraySlice<UInt8>) {
            guard let parsed = CRILogLine(line) else { return add(malformed: line) }
            if parsed.source != source { flush() }
            source = parsed.source
            content += parsed.content
            if !parsed.isPartial { content.append(0x0A) }
        }

        mutating func add(malformed line: ArraySlice<UInt8>) {
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

/// One line of a container's log file: `<RFC 3339 time> <stdout|stderr> <P|F[:more tags]> <content>`.
/// (Kubernetes, "CRI logging": the format that the kubelet reads.)
struct CRILogLine: Equatable {
    enum Source: String {
        case stdout
        case stderr
    }

    let timestamp: String
    let source: Source
    /// The container's line goes on in the next piece of the same source.
    let isPartial: Bool
    let content: ArraySlice<UInt8>

    /// - Parameter line: without its newline.
    /// - Returns: nil when it has another form.
    init?(_ line: ArraySlice<UInt8>) {
        let fields = line.split(separator: UInt8(ascii: " "), maxSplits: 3, omittingEmptySubsequences: false)
        guard fields.count >= 3, fields[0].contains(UInt8(ascii: "T")) else { return nil }
        guard let source = Source(rawValue: String(decoding: fields[1], as: UTF8.self)) else { return nil }
        switch fields[2].first {
        case UInt8(ascii: "P"): isPartial = true
        case UInt8(ascii: "F"): isPartial = false
        default: return nil
        }
        guard fields[2].count == 1 || fields[2].dropFirst().first == UInt8(ascii: ":") else { return nil }
        timestamp = String(decoding: fields[0], as: UTF8.self)
        self.source = source
        content = fields.count == 4 ? fields[3] : []
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

    /// Takes the file's next bytes; a line counts when its newline has come.
    mutating func decode(_ bytes: [UInt8]) -> [Piece] {
        var pieces: [Piece] = []
        var rest = bytes[...]
        while let newline = rest.firstIndex(of: 0x0A) {
            if unfinished.isEmpty {
                pieces.append(Self.piece(rest[..<newline]))
            } else {
                unfinished += rest[..<newline]
                pieces.append(Self.piece(unfinished[...]))
                unfinished.removeAll(keepingCapacity: true)
            }
            rest = rest[(newline + 1)...]
        }
        unfinished += rest
        if unfinished.count > Self.longestLine {
            pieces.append(.malformed(unfinished + [0x0A]))
            unfinished.removeAll()
        }
        return pieces
    }

    private static func piece(_ line: ArraySlice<UInt8>) -> Piece {
        guard let parsed = CRILogLine(line) else { return .malformed(line + [0x0A]) }
        return .output(parsed.source, parsed.isPartial ? Array(parsed.content) : parsed.content + [0x0A])
    }
}

import Runtime

/// Turns a byte stream into lines of the CRI log format, without I/O.
///
/// A line is `<RFC 3339 time with nanoseconds> <stdout|stderr> <P|F> <content>\n`; P marks a piece whose
/// line goes on, F the end of a line. (Kubernetes, "CRI logging": the format that the kubelet parses.)
struct LogLineEncoder {
    /// Content bytes of one piece at most; longer lines are split. 16 KiB as in containerd and cri-o.
    static let maximumContent = 16384

    /// Of a line that stands for bytes which are not in the log. The kubelet's reader takes what is behind a colon as further tags; no
    /// output of a container gets one.
    static let droppedTag = "F:dropped"

    /// Whether what comes is a terminal's: its lines end with "\r\n", of which the log gets the "\n". The bytes of such a source cannot be
    /// counted by what the log holds.
    var isTerminal = false

    private let prefix: [UInt8]
    private var pending: [UInt8] = []
    /// Whether the last piece written was a P: the line goes on.
    var isWithinLine = false

    init(source: StandardStream) {
        prefix = Array(" \(source.rawValue) ".utf8)
    }

    /// Bytes taken in that no line holds yet.
    var pendingCount: Int { pending.count }

    /// Appends `bytes` to the stream and writes every piece that is complete to `output`.
    mutating func append(_ bytes: UnsafeRawBufferPointer, timestamp: [UInt8], to output: inout [UInt8]) {
        var rest = bytes
        while !rest.isEmpty {
            let room = Self.maximumContent - pending.count
            let window = UnsafeRawBufferPointer(rebasing: rest.prefix(room + 1))
            if let newline = window.firstIndex(ofByte: 0x0A) {
                emit(timestamp, full: true, UnsafeRawBufferPointer(rebasing: window[..<newline]), to: &output)
                rest = UnsafeRawBufferPointer(rebasing: rest[(newline + 1)...])
            } else if window.count > room {
                emit(timestamp, full: false, UnsafeRawBufferPointer(rebasing: window.prefix(room)), to: &output)
                rest = UnsafeRawBufferPointer(rebasing: rest[room...])
            } else {
                pending.append(contentsOf: rest)
                return
            }
        }
    }

    /// Writes what is left of an unfinished last line, and closes the line.
    ///
    /// The source has written no end of line, and its bytes are counted by what the log holds (``LogPosition``): what is left becomes P
    /// pieces shorter than any other, and the F behind them stands for no byte.
    mutating func finish(timestamp: [UInt8], to output: inout [UInt8]) {
        if isTerminal { return closeLine(timestamp, to: &output) }
        guard !pending.isEmpty else { return }
        let rest = pending.count == Self.maximumContent ? [pending.removeLast()] : []
        let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
        emit(timestamp, full: false, nothing, to: &output)
        if !rest.isEmpty { rest.withUnsafeBytes { emit(timestamp, full: false, $0, to: &output) } }
        emit(timestamp, full: true, nothing, to: &output)
    }

    /// Writes what is left of an unfinished line as a line of its own: what came behind it was dropped. Nothing is counted that the source
    /// has not written.
    mutating func breakLine(timestamp: [UInt8], to output: inout [UInt8]) {
        if isTerminal { return closeLine(timestamp, to: &output) }
        if !pending.isEmpty { return finish(timestamp: timestamp, to: &output) }
        guard isWithinLine else { return }
        let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
        emit(timestamp, full: false, nothing, to: &output)
        emit(timestamp, full: true, nothing, to: &output)
    }

    /// Ends a terminal's line, written in part or not at all.
    private mutating func closeLine(_ timestamp: [UInt8], to output: inout [UInt8]) {
        guard !pending.isEmpty || isWithinLine else { return }
        emit(timestamp, full: true, UnsafeRawBufferPointer(start: nil, count: 0), to: &output)
    }

    /// Writes what a terminal's line has so far as a P piece, but for a "\r" that the next byte may make a line's end.
    mutating func writePart(timestamp: [UInt8], to output: inout [UInt8]) {
        guard isTerminal else { return }
        let rest: [UInt8] = pending.last == Self.carriageReturn ? [pending.removeLast()] : []
        if !pending.isEmpty { emit(timestamp, full: false, UnsafeRawBufferPointer(start: nil, count: 0), to: &output) }
        pending += rest
    }

    private static let carriageReturn = UInt8(ascii: "\r")

    /// Writes the line that stands for bytes which are not in the log. Called between lines.
    func writeDropped(_ count: UInt64, timestamp: [UInt8], _ reason: String = "dropped over the log's budget", to output: inout [UInt8]) {
        output.append(contentsOf: timestamp)
        output.append(contentsOf: prefix)
        output.append(contentsOf: "\(Self.droppedTag) swiftlet: \(count) bytes \(reason)\n".utf8)
    }

    private mutating func emit(_ timestamp: [UInt8], full: Bool, _ tail: UnsafeRawBufferPointer, to output: inout [UInt8]) {
        var tail = tail
        if isTerminal, full {
            if tail.last == Self.carriageReturn {
                tail = UnsafeRawBufferPointer(rebasing: tail.dropLast())
            } else if tail.isEmpty, pending.last == Self.carriageReturn {
                pending.removeLast()
            }
        }
        output.append(contentsOf: timestamp)
        output.append(contentsOf: prefix)
        output.append(full ? UInt8(ascii: "F") : UInt8(ascii: "P"))
        output.append(UInt8(ascii: " "))
        output.append(contentsOf: pending)
        output.append(contentsOf: tail)
        output.append(0x0A)
        pending.removeAll(keepingCapacity: true)
        isWithinLine = !full
    }
}

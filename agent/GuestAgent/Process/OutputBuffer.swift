import AgentProtocol
import Errors

/// A process's output from when it was read until the host has acknowledged it. No I/O inside.
///
/// Holds at most ``AgentContract/outputBufferSize`` bytes of both sources together; whoever reads the process asks for
/// ``room`` before. Frames come out in the order in which the bytes went in, and can be had again from any offset that
/// is not acknowledged yet.
struct OutputBuffer {
    private struct Chunk {
        /// Order over both sources.
        var order: UInt64
        var start: UInt64
        var bytes: [UInt8]
        var end: UInt64 { start + UInt64(bytes.count) }
    }

    private struct Source {
        var chunks: [Chunk] = []
        /// Chunks before this one are acknowledged, and empty.
        var first = 0
        /// The chunk that `sent` lies in, or behind the last.
        var cursor = 0
        var acknowledged: UInt64 = 0
        var sent: UInt64 = 0
        var received: UInt64 = 0
        var ended = false
        var endSent = false

        var isDone: Bool { endSent && acknowledged == received }
    }

    /// What a chunk costs beside its bytes. Counted, so that lines of one byte cannot use up the guest's memory.
    private static let chunkOverhead = 64

    /// Bytes up to which chunks grow. With its header a frame fits into one packet of Linux's vsock (64 KiB).
    private static let longestChunk = OutputFrame.maximumPayload - OutputFrame.headerLength

    private var stdout = Source()
    private var stderr = Source()
    private var nextOrder: UInt64 = 0
    private var held = 0
    private let capacity: Int

    init(capacity: Int = AgentContract.outputBufferSize) { self.capacity = capacity }

    /// Bytes that may be appended now.
    var room: Int { max(0, capacity - held - Self.chunkOverhead) }

    /// Both sources ended, the host knows it, and has acknowledged everything.
    var isDone: Bool { stdout.isDone && stderr.isDone }

    func acknowledged(_ source: OutputSource) -> UInt64 { self[source].acknowledged }

    /// Bytes that were read of a source so far.
    func received(_ source: OutputSource) -> UInt64 { self[source].received }

    /// - Precondition: at most ``OutputFrame/maximumPayload`` bytes, and the source has not ended.
    mutating func append(_ source: OutputSource, _ bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count <= OutputFrame.maximumPayload && !self[source].ended)
        guard !bytes.isEmpty else { return }
        if let last = self[source].chunks.indices.last, last >= self[source].first,
            self[source].chunks[last].order == nextOrder,
            self[source].chunks[last].bytes.count + bytes.count <= Self.longestChunk
        {
            self[source].chunks[last].bytes.append(contentsOf: bytes)
        } else {
            nextOrder += 1
            self[source].chunks.append(Chunk(order: nextOrder, start: self[source].received, bytes: Array(bytes)))
            held += Self.chunkOverhead
        }
        self[source].received += UInt64(bytes.count)
        held += bytes.count
    }

    mutating func end(_ source: OutputSource) { self[source].ended = true }

    /// The next frame that the connection has not had; nil when it has had everything so far.
    mutating func nextFrame() -> OutputFrame? {
        guard let source = nextSource() else {
            for source in OutputSource.allCases where self[source].ended && !self[source].endSent {
                self[source].endSent = true
                return OutputFrame(source: source, end: true, payload: [])
            }
            return nil
        }
        let chunk = self[source].chunks[self[source].cursor]
        let sent = Int(self[source].sent - chunk.start)
        let payload = sent == 0 ? chunk.bytes : Array(chunk.bytes[sent...])
        self[source].sent = chunk.end
        return OutputFrame(source: source, payload: payload)
    }

    /// The source whose unsent bytes are the oldest.
    private mutating func nextSource() -> OutputSource? {
        var oldest: (source: OutputSource, order: UInt64)?
        for source in OutputSource.allCases {
            // A chunk that grew after it was sent is where the cursor still stands.
            while self[source].cursor < self[source].chunks.count, self[source].chunks[self[source].cursor].end <= self[source].sent {
                self[source].cursor += 1
            }
            guard self[source].cursor < self[source].chunks.count else {
                self[source].cursor = max(self[source].first, self[source].chunks.count - 1)
                continue
            }
            let order = self[source].chunks[self[source].cursor].order
            if oldest.map({ order < $0.order }) ?? true { oldest = (source, order) }
        }
        return oldest?.source
    }

    /// Drops what the host has received.
    ///
    /// - Throws: `.invalidArgument` for totals that shrink or that were never sent. The connection has to be closed.
    mutating func acknowledge(_ acknowledgement: OutputAcknowledgement) throws(SwiftletError) {
        for (source, total) in [(OutputSource.stdout, acknowledgement.stdout), (.stderr, acknowledgement.stderr)] {
            guard total >= self[source].acknowledged, total <= self[source].sent else {
                throw SwiftletError(.invalidArgument, "output stream: acknowledgement of \(total) bytes, sent \(self[source].sent)")
            }
        }
        drop(.stdout, to: acknowledgement.stdout)
        drop(.stderr, to: acknowledgement.stderr)
    }

    /// - Throws: `.outOfRange` when a host that has this much cannot be served.
    func check(stdout: UInt64, stderr: UInt64) throws(SwiftletError) {
        for (source, offset) in [(OutputSource.stdout, stdout), (.stderr, stderr)] {
            guard offset >= self[source].acknowledged, offset <= self[source].received else {
                throw SwiftletError(
                    .outOfRange,
                    "output stream: \(source) cannot go on at \(offset), the agent holds \(self[source].acknowledged) to \(self[source].received)"
                )
            }
        }
    }

    /// Starts over for a new connection whose host has this much, which also acknowledges it.
    ///
    /// - Throws: as ``check(stdout:stderr:)``.
    mutating func restart(stdout: UInt64, stderr: UInt64) throws(SwiftletError) {
        try check(stdout: stdout, stderr: stderr)
        for (source, offset) in [(OutputSource.stdout, stdout), (.stderr, stderr)] {
            drop(source, to: offset)
            self[source].sent = offset
            self[source].cursor = self[source].first
            self[source].endSent = false
        }
    }

    private mutating func drop(_ source: OutputSource, to total: UInt64) {
        self[source].acknowledged = total
        while self[source].first < self[source].chunks.count, self[source].chunks[self[source].first].end <= total {
            let first = self[source].first
            held -= self[source].chunks[first].bytes.count + Self.chunkOverhead
            self[source].chunks[first].bytes = []
            self[source].first += 1
        }
        let first = self[source].first
        self[source].cursor = max(self[source].cursor, first)
        guard first == self[source].chunks.count || first > 64 else { return }
        self[source].chunks.removeFirst(first)
        self[source].cursor -= first
        self[source].first = 0
    }

    private subscript(source: OutputSource) -> Source {
        get { source == .stdout ? stdout : stderr }
        _modify {
            if source == .stdout { yield &stdout } else { yield &stderr }
        }
    }
}

import Synchronization

/// Between the logs, which wait for nobody, and what delivers their lines to one collector.
final class LineQueue: Sendable {
    private struct State {
        var lines: WaitingLines
        var isOverflowing = false
        var isClosed = false
    }

    private let state: Mutex<State>
    /// Lines wait where none did before. One task awaits it.
    let arrivals: AsyncStream<Void>
    private let arrived: AsyncStream<Void>.Continuation
    private let overflowed: @Sendable () -> Void

    /// - Parameters:
    ///   - capacity: bytes.
    ///   - overflowed: called when lines begin to be dropped.
    init(capacity: Int, overflowed: @escaping @Sendable () -> Void = {}) {
        state = Mutex(State(lines: WaitingLines(capacity: capacity)))
        (arrivals, arrived) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        self.overflowed = overflowed
    }

    /// Bytes that wait.
    var bytes: Int { state.withLock { $0.lines.bytes } }
    var isClosed: Bool { state.withLock { $0.isClosed } }
    /// So far.
    var droppedLines: Int { state.withLock { $0.lines.droppedLines } }

    func setCapacity(_ capacity: Int) { state.withLock { $0.lines.capacity = capacity } }

    /// Whole lines of the CRI log format. Waits for nobody.
    func append(_ lines: [UInt8], of container: CollectedContainer) {
        let (isFirst, overflows) = state.withLock { state in
            guard !state.isClosed else { return (false, false) }
            let wasEmpty = state.lines.isEmpty
            guard !state.lines.append(lines, of: container) else { return (wasEmpty, false) }
            defer { state.isOverflowing = true }
            return (false, !state.isOverflowing)
        }
        if isFirst { arrived.yield() }
        if overflows { overflowed() }
    }

    /// The container's log has been closed.
    func end(_ container: CollectedContainer) { state.withLock { $0.lines.end(container) } }

    /// Takes what came first: one piece, or as many as are no more than so many bytes. Nil when no line waits.
    func take(atMost limit: Int) -> [CollectedPiece]? {
        state.withLock { state in
            let pieces = state.lines.take(atMost: limit)
            if state.lines.isEmpty { state.isOverflowing = false }
            return pieces
        }
    }

    /// Counts what was taken, and refused for good.
    func refuse(_ pieces: [CollectedPiece]) { state.withLock { $0.lines.refuse(pieces) } }

    /// Counts lines of which it is not known whose they were.
    func refuse(lines: Int) { state.withLock { $0.lines.refuse(lines: lines) } }

    /// Takes no more lines. ``arrivals`` ends behind those that wait.
    func close() {
        state.withLock { $0.isClosed = true }
        arrived.finish()
    }
}

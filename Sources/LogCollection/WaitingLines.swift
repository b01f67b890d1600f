import DequeModule

/// What waits for one collector: bounded bytes, of which one container may have a quarter.
///
/// What finds no room is dropped, not what waits already: the gap is one, at its place, and the log's file has what is missing.
struct WaitingLines {
    private struct Source {
        let container: CollectedContainer
        var bytes = 0
        /// Since the last gap that was put between the lines.
        var dropped = DroppedLines()
        var isOpen = true
    }

    /// What a piece takes beside its bytes.
    static let overhead = 128

    var capacity: Int
    private(set) var bytes = 0
    /// So far.
    private(set) var droppedLines = 0
    private var pieces: Deque<CollectedPiece> = []
    /// Of containers whose logs are open, or which have lines here.
    private var sources: [UInt64: Source] = [:]
    /// Containers of which something was dropped since their last gap.
    private var withGaps: Set<UInt64> = []
    /// Of containers that are gone.
    private var droppedOfOthers = DroppedLines()

    init(capacity: Int) { self.capacity = capacity }

    var isEmpty: Bool { pieces.isEmpty }

    /// - Returns: whether there was room.
    mutating func append(_ lines: [UInt8], of container: CollectedContainer) -> Bool {
        var source = sources[container.number] ?? Source(container: container)
        defer { sources[container.number] = source }
        let gap = source.dropped.lines > 0 ? Self.overhead : 0
        let cost = gap + Self.overhead + lines.count
        guard bytes + cost <= capacity, source.bytes + cost <= capacity / 4 else {
            let dropped = DroppedLines(lines: lines.lineCount, bytes: lines.count)
            source.dropped += dropped
            droppedLines += dropped.lines
            withGaps.insert(container.number)
            return false
        }
        if gap > 0 {
            pieces.append(CollectedPiece(container: container, content: .gap(source.dropped)))
            source.dropped = DroppedLines()
            withGaps.remove(container.number)
        }
        pieces.append(CollectedPiece(container: container, content: .lines(lines)))
        bytes += cost
        source.bytes += cost
        return true
    }

    /// The container's log has been closed.
    mutating func end(_ container: CollectedContainer) {
        sources[container.number]?.isOpen = false
        forgetIfDone(container.number)
    }

    /// Takes what came first: one piece, or as many as are no more than so many bytes. Nil when no line waits.
    mutating func take(atMost limit: Int) -> [CollectedPiece]? {
        guard !pieces.isEmpty else { return nil }
        var taken: [CollectedPiece] = []
        var size = 0
        while let next = pieces.first {
            let cost = next.cost
            guard taken.isEmpty || size + cost <= limit else { return taken }
            size += cost
            bytes -= cost
            pieces.removeFirst()
            taken.append(next)
            guard let number = next.container?.number else { continue }
            sources[number]?.bytes -= cost
            if let source = sources[number], !source.isOpen, source.bytes == 0 {
                taken += gap(of: number)
                forgetIfDone(number)
            }
        }
        // Nobody is to wait for a container's next line to learn what is missing.
        for number in withGaps { taken += gap(of: number) }
        withGaps = []
        if droppedOfOthers.lines > 0 { taken.append(CollectedPiece(container: nil, content: .gap(droppedOfOthers))) }
        droppedOfOthers = DroppedLines()
        return taken
    }

    /// Counts what was taken, and refused for good. Its gap comes with the next lines: one of its own would be refused again and again.
    mutating func refuse(_ refused: [CollectedPiece]) {
        for piece in refused {
            let dropped: DroppedLines
            switch piece.content {
            case .lines(let lines):
                dropped = DroppedLines(lines: lines.lineCount, bytes: lines.count)
                droppedLines += dropped.lines
            // Counted when it was dropped.
            case .gap(let gap): dropped = gap
            }
            if let number = piece.container?.number, sources[number] != nil {
                sources[number]?.dropped += dropped
                withGaps.insert(number)
            } else {
                droppedOfOthers += dropped
            }
        }
    }

    /// Counts lines of which it is not known whose they were.
    mutating func refuse(lines: Int) { droppedLines += lines }

    private mutating func gap(of number: UInt64) -> [CollectedPiece] {
        guard let source = sources[number], source.dropped.lines > 0 else { return [] }
        sources[number]?.dropped = DroppedLines()
        return [CollectedPiece(container: source.container, content: .gap(source.dropped))]
    }

    private mutating func forgetIfDone(_ number: UInt64) {
        guard let source = sources[number], !source.isOpen, source.bytes == 0 else { return }
        droppedOfOthers += source.dropped
        withGaps.remove(number)
        sources[number] = nil
    }
}

extension CollectedPiece {
    fileprivate var cost: Int {
        switch content {
        case .lines(let lines): WaitingLines.overhead + lines.count
        case .gap: WaitingLines.overhead
        }
    }
}

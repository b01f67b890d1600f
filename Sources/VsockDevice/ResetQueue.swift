import DequeModule

/// RST packets that belong to no connection, waiting for room in the guest's receive queue.
struct ResetQueue {
    struct Entry: Equatable {
        /// The host's side of the pair as the guest addressed it.
        var cid: UInt64
        var hostPort: UInt32
        var guestPort: UInt32
        var type: UInt16
    }

    /// A guest that takes no packets loses RSTs beyond this; its own connects time out then.
    static let capacity = 1024

    private var entries: Deque<Entry> = []

    var first: Entry? { entries.first }

    mutating func append(_ entry: Entry) {
        guard entries.count < Self.capacity else { return }
        entries.append(entry)
    }

    mutating func removeFirst() { entries.removeFirst() }

    mutating func removeAll() { entries.removeAll() }
}

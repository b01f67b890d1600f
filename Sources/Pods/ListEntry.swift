import Runtime
import Synchronization

/// One line of a list: a snapshot and, once somebody asked for it, its encoding.
///
/// A kubelet lists everything every second, while little changes: each snapshot is encoded once.
public final class ListEntry<Snapshot: Sendable>: Sendable {
    public let snapshot: Snapshot
    private let encoding = Mutex<[UInt8]?>(nil)

    init(_ snapshot: Snapshot) {
        self.snapshot = snapshot
    }

    /// The snapshot as `encode` turned it into bytes the first time.
    public func encoded(_ encode: (Snapshot) throws -> [UInt8]) rethrows -> [UInt8] {
        if let known = encoding.withLock({ $0 }) { return known }
        let bytes = try encode(snapshot)
        encoding.withLock { $0 = bytes }
        return bytes
    }
}

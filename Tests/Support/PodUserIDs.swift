import Synchronization

/// User ids for the pods of one daemon of the tests: other daemons run on the same machine at the same time.
public struct PodUserIDs: Sendable {
    public let first: Int
    public let count = 256

    private static let number = Mutex(0)
    /// Of this run. Its process id says nothing: runs have PID namespaces of their own.
    private static let run = Int.random(in: 0..<4096)

    public init() {
        let own = Self.number.withLock { number in
            number += 1
            return number % 128
        }
        // Above what a node uses by default, and within what systemd leaves unused.
        first = 2_002_000_000 + (Self.run * 128 + own) * count
    }
}

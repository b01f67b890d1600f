import Glibc
import Synchronization

/// Bounds the memory that guests can take with replies of more than 64 KiB, of all guests of the node together.
///
/// A guest that stops in the middle of one keeps its place until its time for an answer is over: only others' large replies wait for it.
public final class LargeReplies: Sendable {
    /// Of which a part is held: 10 MiB each.
    let reading = ReplyPlaces(8)
    /// Which costs several times their size.
    let decoding = ReplyPlaces(2)

    public init() {}
}

/// A number of places for threads, which wait for one.
final class ReplyPlaces: Sendable {
    /// Given back once, at the latest when nobody has it.
    final class Place {
        private var places: ReplyPlaces?

        fileprivate init(_ places: ReplyPlaces) { self.places = places }

        deinit { giveBack() }

        func giveBack() {
            places?.free.withLock { $0 += 1 }
            places = nil
        }
    }

    private let free: Mutex<Int>

    init(_ number: Int) { free = Mutex(number) }

    /// - Throws: `.deadlineExceeded`.
    func take(by deadline: ContinuousClock.Instant) throws -> Place {
        while true {
            let isTaken = free.withLock { free in
                guard free > 0 else { return false }
                free -= 1
                return true
            }
            if isTaken { return Place(self) }
            guard .now < deadline else { throw AgentConnection.crowded }
            usleep(5000)
        }
    }
}

import Errors
import Runtime
import Synchronization

/// Passes events on to those who watch. Sending never waits: a watcher that falls behind loses its stream, with an error.
final class PodEvents: Sendable {
    typealias Stream = AsyncThrowingStream<PodEvent, any Error>

    private struct State {
        var watchers: [UInt64: Stream.Continuation] = [:]
        var next: UInt64 = 0
        var isClosed = false
    }

    /// Events that may wait for one watcher. A node of 110 pods has fewer in a restart of them all.
    static let capacity = 2048

    private let capacity: Int
    private let state = Mutex(State())

    init(capacity: Int = PodEvents.capacity) {
        self.capacity = capacity
    }

    /// Those whom an event would reach.
    var watchers: Int { state.withLock { $0.watchers.count } }

    /// All events from now on.
    ///
    /// - Throws: the stream throws `.resourceExhausted` when its reader falls behind, `.unavailable` when the daemon ends.
    func watch() -> Stream {
        let (stream, continuation) = Stream.makeStream(bufferingPolicy: .bufferingOldest(capacity))
        let key = state.withLock { state -> UInt64? in
            guard !state.isClosed else { return nil }
            state.next += 1
            state.watchers[state.next] = continuation
            return state.next
        }
        guard let key else {
            continuation.finish(throwing: Self.ending)
            return stream
        }
        continuation.onTermination = { [weak self] _ in
            self?.state.withLock { _ = $0.watchers.removeValue(forKey: key) }
        }
        return stream
    }

    func send(_ event: PodEvent) {
        let slow = state.withLock { state in
            var slow: [Stream.Continuation] = []
            for (key, watcher) in state.watchers {
                guard case .dropped = watcher.yield(event) else { continue }
                state.watchers[key] = nil
                slow.append(watcher)
            }
            return slow
        }
        // Outside of the lock: finishing runs the watcher's end, which takes it.
        for watcher in slow {
            watcher.finish(
                throwing: SwiftletError(
                    .resourceExhausted, "events: more than \(capacity) were not read; list the pods and watch again"))
        }
    }

    /// Ends all streams, also those to come.
    func close() {
        let watchers = state.withLock { state in
            state.isClosed = true
            defer { state.watchers = [:] }
            return Array(state.watchers.values)
        }
        for watcher in watchers { watcher.finish(throwing: Self.ending) }
    }

    private static let ending = SwiftletError(.unavailable, "events: swiftletd is ending; watch again when it is back")
}

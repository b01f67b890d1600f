import Errors
import Synchronization
import Testing

/// Waits until `condition` holds.
///
/// - Throws: after a minute, which fails the test instead of hanging the run.
func eventually(_ what: String, _ condition: () -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(60)
    while !condition() {
        guard ContinuousClock.now < deadline else { throw SwiftletError(.deadlineExceeded, "not so within a minute: \(what)") }
        await Task.yield()
    }
}

/// A door that work waits at, whether or not it is cancelled, until the test opens it.
final class Door: Sendable {
    private let state = Mutex((isOpen: false, waiters: [CheckedContinuation<Void, Never>]()))

    func open() {
        let waiters = state.withLock { state in
            defer { state = (true, []) }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    func pass() async {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiters.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }
}

/// What happened, in order.
final class Record<Element: Sendable>: Sendable {
    private let state = Mutex<[Element]>([])

    var all: [Element] { state.withLock { $0 } }
    func add(_ element: Element) { state.withLock { $0.append(element) } }
}

/// How many run at once, and how many did at most.
final class Load: Sendable {
    private let state = Mutex((now: 0, most: 0, done: 0))

    var now: Int { state.withLock { $0.now } }
    var most: Int { state.withLock { $0.most } }
    var done: Int { state.withLock { $0.done } }
    func begin() { state.withLock { ($0.now, $0.most) = ($0.now + 1, max($0.most, $0.now + 1)) } }
    func end() { state.withLock { ($0.now, $0.done) = ($0.now - 1, $0.done + 1) } }
}

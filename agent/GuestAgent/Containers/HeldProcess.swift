import CContainer
import CLinux
import Concurrency
import Errors
import Glibc
import Linux
import Synchronization

/// A container's first process before its start: it has its root and has executed its command, of which no instruction has
/// run. The start has nothing left to do but release it; it throws what kept the process from executing its command.
///
/// A thread of its own traces the process and so holds it: only the thread that has attached to a process can release it.
final class HeldProcess: Sendable {
    /// What the tracing thread and its callers share.
    private final class Tracing: Sendable {
        let isHeld: Latch
        let isOrdered: Latch
        let isDone: Latch
        /// Read once `isOrdered` is open: release the process, or end it.
        let releases = Atomic(false)
        /// Read once `isHeld` or `isDone` is open.
        let outcome = Mutex<Result<OwnedDescriptor?, SwiftletError>>(.success(nil))

        init() throws(SwiftletError) {
            isHeld = try Latch()
            isOrdered = try Latch()
            isDone = try Latch()
        }
    }

    private let container: String
    private let pid: pid_t
    /// Nil once an order was given, or when nothing is held.
    private let tracing = Mutex<Tracing?>(nil)
    /// What kept the process from executing its command; it is gone then.
    private let failure: SwiftletError?

    /// Takes a process over that waits at its gate, and returns when it is held or has failed.
    /// - Throws: when the process can be neither held nor refused in time; it is gone then.
    init(_ created: cc_held, of container: String) throws(SwiftletError) {
        self.container = container
        pid = created.pid
        var held = created
        let tracing: Tracing
        do {
            tracing = try Tracing()
            try OwnThread.start { Self.trace(tracing, created, container) }
        } catch {
            cc_abandon(&held)
            throw SwiftletError.wrap(error, "container \(container)")
        }
        tracing.isHeld.wait()
        switch tracing.outcome.withLock({ $0 }) {
        case .success:
            failure = nil
            self.tracing.withLock { $0 = tracing }
        case .failure(let error):
            guard error.code != .deadlineExceeded else { throw error }
            failure = error
        }
    }

    deinit { abandon() }

    private static func trace(_ tracing: Tracing, _ created: cc_held, _ container: String) {
        clinux_name_thread("held")
        var (held, failure) = (created, cc_failure())
        guard cc_hold(&held, Spawn.timeout, &failure) == 0 else {
            tracing.outcome.withLock { $0 = .failure(Spawn.error(failure, container)) }
            return tracing.isHeld.open()
        }
        tracing.isHeld.open()
        tracing.isOrdered.wait()
        if !tracing.releases.load(ordering: .acquiring) {
            cc_abandon(&held)
        } else if cc_release(&held, Spawn.timeout, &failure) == 0 {
            tracing.outcome.withLock { $0 = .success(OwnedDescriptor(held.pidfd)) }
        } else {
            tracing.outcome.withLock { $0 = .failure(Spawn.error(failure, container)) }
        }
        tracing.isDone.open()
    }

    /// Lets the process run.
    /// - Throws: what kept the process from executing its command; it is gone then.
    func release() throws(SwiftletError) -> (pid: pid_t, process: OwnedDescriptor) {
        if let failure { throw failure }
        guard let process = try order(release: true) else {
            throw SwiftletError(.aborted, "container \(container): it was deleted before its start")
        }
        return (pid, process)
    }

    /// Ends the process unless it was released.
    func abandon() { _ = try? order(release: false) }

    /// Waits until the order is carried out. - Returns: the process that was released; nil when another order was given before.
    private func order(release: Bool) throws(SwiftletError) -> OwnedDescriptor? {
        let taken = tracing.withLock { tracing in
            defer { tracing = nil }
            return tracing
        }
        guard let taken else { return nil }
        taken.releases.store(release, ordering: .releasing)
        taken.isOrdered.open()
        taken.isDone.wait()
        return try taken.outcome.withLock { $0 }.get()
    }
}

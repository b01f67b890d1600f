import CContainer
import CLinux
import Concurrency
import Errors
import Glibc
import Linux
import Synchronization

/// A container's first process before its start: it has its root and has executed its command, of which no instruction has
/// run. The start has nothing left to do but let it go. A command that cannot be executed is told by the start.
///
/// A thread of its own traces the process and so holds it: only the thread that has attached to a process can let it go.
final class Birth: Sendable {
    /// What the thread and the others tell each other.
    private final class Attendance: Sendable {
        let isHeld: Latch
        let isOrdered: Latch
        let isDone: Latch
        /// Read once `isOrdered` is open: let it go, or end it.
        let letsGo = Atomic(false)
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
    private let attendance = Mutex<Attendance?>(nil)
    /// What kept the process from executing its command; it is gone then.
    private let failure: SwiftletError?

    /// Takes a process over that waits at its gate, and returns when it is held or has failed.
    /// - Throws: when the process can be neither held nor refused in time; it is gone then.
    init(_ birth: cc_birth, of container: String) throws(SwiftletError) {
        self.container = container
        pid = birth.pid
        var born = birth
        let attendance: Attendance
        do {
            attendance = try Attendance()
            try OwnThread.start { [born] in Self.attend(attendance, born, container) }
        } catch {
            cc_abandon(&born)
            throw SwiftletError.wrap(error, "container \(container)")
        }
        attendance.isHeld.wait()
        switch attendance.outcome.withLock({ $0 }) {
        case .success:
            failure = nil
            self.attendance.withLock { $0 = attendance }
        case .failure(let error):
            guard error.code != .deadlineExceeded else { throw error }
            failure = error
        }
    }

    deinit { abandon() }

    private static func attend(_ attendance: Attendance, _ born: cc_birth, _ container: String) {
        clinux_name_thread("birth")
        var (birth, failure) = (born, cc_failure())
        guard cc_hold(&birth, Spawn.timeout, &failure) == 0 else {
            attendance.outcome.withLock { $0 = .failure(Spawn.error(failure, container)) }
            return attendance.isHeld.open()
        }
        attendance.isHeld.open()
        attendance.isOrdered.wait()
        if !attendance.letsGo.load(ordering: .acquiring) {
            cc_abandon(&birth)
        } else if cc_let_go(&birth, Spawn.timeout, &failure) == 0 {
            attendance.outcome.withLock { $0 = .success(OwnedDescriptor(birth.pidfd)) }
        } else {
            attendance.outcome.withLock { $0 = .failure(Spawn.error(failure, container)) }
        }
        attendance.isDone.open()
    }

    /// - Throws: what hindered the process from executing its command; it is gone then.
    func letGo() throws(SwiftletError) -> (pid: pid_t, process: OwnedDescriptor) {
        if let failure { throw failure }
        guard let process = try order(letGo: true) else {
            throw SwiftletError(.aborted, "container \(container): it was deleted before its start")
        }
        return (pid, process)
    }

    /// Ends the process unless it was let go.
    func abandon() { _ = try? order(letGo: false) }

    /// Waits until the order is carried out. - Returns: the process that was let go; nil when another order was given before.
    private func order(letGo: Bool) throws(SwiftletError) -> OwnedDescriptor? {
        let taken = attendance.withLock { attendance in
            defer { attendance = nil }
            return attendance
        }
        guard let taken else { return nil }
        taken.letsGo.store(letGo, ordering: .releasing)
        taken.isOrdered.open()
        taken.isDone.wait()
        return try taken.outcome.withLock { $0 }.get()
    }
}

import CContainer
import CLinux
import Errors
import Glibc
import Linux
import Synchronization

/// A container's first process before its start: it has its root and has executed its command, of which no instruction has
/// run. The start has nothing left to do but let it go.
///
/// A thread of its own traces the process and so holds it: only the thread that has attached to a process can let it go.
final class Birth: Sendable {
    private enum Order {
        case letGo
        case abandon
    }

    /// What the thread and the others tell each other.
    private final class Attendance: Sendable {
        let isBorn: Latch
        let isOrdered: Latch
        let isDone: Latch
        let order = Mutex<Order?>(nil)
        /// From `isBorn` on.
        let failure = Mutex<SwiftletError?>(nil)
        /// From `isDone` on.
        let outcome = Mutex<Result<(pid: pid_t, process: OwnedDescriptor), SwiftletError>?>(nil)

        init() throws(SwiftletError) {
            isBorn = try Latch()
            isOrdered = try Latch()
            isDone = try Latch()
        }
    }

    private let container: String
    private let attendance: Attendance

    /// Returns when the process is held, or has failed on its way: ``letGo()`` tells why.
    /// - Parameter bear: runs on the thread that is to trace the process.
    /// - Throws: when nothing could be born.
    init(of container: String, _ bear: @escaping @Sendable () throws(SwiftletError) -> cc_birth) throws(SwiftletError) {
        self.container = container
        let attendance = try Attendance()
        self.attendance = attendance
        do {
            try OwnThread.start { Self.attend(attendance, container, bear) }
        } catch {
            throw SwiftletError.wrap(error, "container \(container)")
        }
        attendance.isBorn.wait()
        if let failure = attendance.failure.withLock({ $0 }) { throw failure }
    }

    deinit { abandon() }

    private static func attend(_ attendance: Attendance, _ container: String, _ bear: () throws(SwiftletError) -> cc_birth) {
        clinux_name_thread("birth")
        let birth: cc_birth
        do throws(SwiftletError) {
            birth = try bear()
        } catch {
            attendance.failure.withLock { $0 = error }
            attendance.isBorn.open()
            return
        }
        attendance.isBorn.open()
        attendance.isOrdered.wait()
        attendance.outcome.withLock { $0 = carryOut(attendance.order.withLock { $0 } ?? .abandon, birth, container) }
        attendance.isDone.open()
    }

    private static func carryOut(
        _ order: Order, _ birth: cc_birth, _ container: String
    ) -> Result<(pid: pid_t, process: OwnedDescriptor), SwiftletError> {
        var (birth, failure) = (birth, cc_failure())
        guard order == .letGo else {
            cc_abandon(&birth)
            return .failure(deleted(container))
        }
        guard cc_let_go(&birth, &failure) == 0 else { return .failure(Spawn.error(failure, container)) }
        return .success((birth.pid, OwnedDescriptor(birth.pidfd)))
    }

    /// - Throws: what hindered the process from executing its command; it is gone then.
    func letGo() throws(SwiftletError) -> (pid: pid_t, process: OwnedDescriptor) {
        guard give(.letGo), let outcome = attendance.outcome.withLock({ $0 }) else { throw Self.deleted(container) }
        return try outcome.get()
    }

    /// Ends the process unless it was let go.
    func abandon() { _ = give(.abandon) }

    /// Waits until the order is carried out. - Returns: false when another one was given before.
    private func give(_ order: Order) -> Bool {
        let isFirst = attendance.order.withLock { given in
            defer { given = given ?? order }
            return given == nil
        }
        // Nobody attends a birth that failed to begin with.
        guard isFirst, attendance.failure.withLock({ $0 }) == nil else { return false }
        attendance.isOrdered.open()
        attendance.isDone.wait()
        return true
    }

    private static func deleted(_ container: String) -> SwiftletError {
        SwiftletError(.aborted, "container \(container): it was deleted before its start")
    }
}

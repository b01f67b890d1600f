import CContainer
import Errors
import Synchronization

/// A container's first process before its start: it makes its root and then waits for its standard input and output, so that
/// the start has little left to do.
final class Birth: Sendable {
    private let container: String
    /// Nil once it was let go or abandoned.
    private let birth: Mutex<cc_birth?>

    init(_ birth: cc_birth, of container: String) {
        self.container = container
        self.birth = Mutex(birth)
    }

    deinit { abandon() }

    /// - Throws: what hindered the process from executing its command; it is gone then.
    func letGo(_ stdio: ProcessDescriptors) throws(SwiftletError) -> (pid: pid_t, process: OwnedDescriptor) {
        guard var birth = take() else { throw SwiftletError(.aborted, "container \(container): it was deleted before its start") }
        var failure = cc_failure()
        guard cc_let_go(&birth, [stdio.stdin, stdio.stdout, stdio.stderr], Spawn.timeout, &failure) == 0 else {
            throw Spawn.error(failure, container)
        }
        return (birth.pid, OwnedDescriptor(birth.pidfd))
    }

    /// Ends the process unless it was let go.
    func abandon() {
        guard var birth = take() else { return }
        cc_abandon(&birth)
    }

    private func take() -> cc_birth? {
        birth.withLock { birth in
            defer { birth = nil }
            return birth
        }
    }
}

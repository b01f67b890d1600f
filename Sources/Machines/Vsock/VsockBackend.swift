import CLinux
import Concurrency
import Errors
import Glibc
import Linux

/// The process that is a machine's vsock device where the kernel has none (swiftlet-vsockd).
///
/// It belongs to the machine, not to the daemon: it runs in a session of its own and lives on when the daemon is killed.
public struct VsockBackend: Sendable {
    public var binary: String
    /// How long the backend may take until it listens.
    public var timeout: Duration
    /// Whom backends may run as, beside libvirt's own user.
    public var users: UserRange?

    public init(binary: String, users: UserRange? = nil, timeout: Duration = .seconds(5)) {
        self.binary = binary
        self.users = users
        self.timeout = timeout
    }

    /// Starts the backend of a machine and returns when it listens. QEMU connects to it at its own start.
    ///
    /// - Parameters:
    ///   - vhostSocket: where QEMU will connect; nobody but `user` can.
    ///   - hostSocket: where the host reaches the guest's ports.
    ///   - cid: the context id the guest will see.
    ///   - log: the file that gets the backend's output.
    ///   - user: QEMU's. The backend becomes it as well, before it looks at anything of the guest.
    /// - Throws: the errno of a binary that cannot be started; `unavailable` with the end of its log when it ends at once;
    ///   `deadlineExceeded`. It does not run after an error.
    public func start(
        vhostSocket: String, hostSocket: String, cid: UInt32, log: String, user: MachineUser
    ) async throws -> ProcessIdentity {
        let (binary, timeout) = (binary, timeout)
        let arguments = [
            "--vhost-socket", vhostSocket, "--host-socket", hostSocket, "--guest-cid", "\(cid)", "--user", "\(user.uid):\(user.gid)",
        ]
        return try await OwnThread.run {
            try DetachedProcess.startAndWait(binary, arguments, log: log, what: "vsock backend", within: timeout)
        }
    }

    /// Ends the backend of a machine. Succeeds when there is none.
    ///
    /// - Parameters:
    ///   - hostSocket: the socket it was started with: finds the process where the identity was never written down.
    ///   - process: as `start` returned it; nil where it was never written down.
    /// - Throws: `deadlineExceeded` when the process does not end on SIGKILL.
    public func stop(hostSocket: String, process: ProcessIdentity?) async throws {
        let (binary, users) = (binary, users)
        try await OwnThread.run {
            // Whoever knows the process spares the search through all of them.
            let found = process.map { [$0] } ?? Self.search(binary, users, hostSocket)
            for process in found where process.isAlive {
                _ = try? process.signal(SIGTERM)
                if process.waitForExit(.milliseconds(500)) { continue }
                process.kill()
                guard process.waitForExit(.seconds(5)) else {
                    throw SwiftletError(.deadlineExceeded, "vsock backend \(process.pid) does not end on SIGKILL")
                }
            }
            for process in found { process.reap() }
        }
    }

    /// Backends that run with this socket, by their command lines.
    private static func search(_ binary: String, _ users: UserRange?, _ hostSocket: String) -> [ProcessIdentity] {
        ProcessTable.all(of: ProcessTable.users("libvirt-qemu"), and: users) { arguments in
            guard let flag = arguments.firstIndex(of: "--host-socket"), flag + 1 < arguments.count else { return false }
            let name = binary.split(separator: "/").last.map(String.init) ?? binary
            // A script's command line begins with its interpreter.
            return arguments[flag + 1] == hostSocket && arguments.prefix(2).contains { $0 == binary || $0.hasSuffix("/" + name) }
        }
    }
}

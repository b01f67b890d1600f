import Concurrency
import Errors
import Glibc
import Linux

/// The process that is a machine's TPM (swtpm). It ends by itself when QEMU does, and its state stays.
public struct TPMEmulator: Sendable {
    public var program: String
    /// How long it may take until it listens; it takes some 10 ms.
    public var deadline: Duration

    public init(program: String = "/usr/bin/swtpm", deadline: Duration = .seconds(5)) {
        self.program = program
        self.deadline = deadline
    }

    /// Why machines of this node can have no TPM; nil when they can. Blocks for a moment.
    public func obstacle() -> String? {
        access(program, X_OK) == 0 ? nil : "a TPM needs \(program), which is not installed (package swtpm)"
    }

    /// Starts the TPM of a machine and returns when it listens. QEMU connects to it at its own start.
    ///
    /// - Parameters:
    ///   - socket: in a directory that the user can write to. At most 107 bytes.
    ///   - state: a directory of the TPM alone, made where it is missing. What is in it is the TPM's, also at the next start.
    ///   - user: QEMU's.
    /// - Throws: `failedPrecondition` without the program, `unavailable` with what it says when it does not come up. It does not run then.
    public func start(socket: String, state: String, user: MachineUser) async throws {
        try MachineSpec.checkSocket(socket)
        try MachineSpec.checkPath(state)
        // swtpm's option syntax has no way to write a comma.
        guard !socket.contains(","), !state.contains(",") else {
            throw SwiftletError(.invalidArgument, "a TPM's paths cannot hold commas: \(socket), \(state)")
        }
        try await OwnThread.run {
            if let obstacle = obstacle() { throw SwiftletError(.failedPrecondition, obstacle) }
            guard mkdir(state, 0o700) == 0 || errno == EEXIST else { throw SwiftletError.system("make \(state)") }
            guard lchown(state, user.uid, user.gid) == 0 else { throw SwiftletError.system("chown \(state)") }
        }
        let swtpm = UnprivilegedProgram(path: program, user: user, processorTime: nil, deadline: deadline)
        let result = try await swtpm.spawn([
            "socket", "--tpm2", "--tpmstate", "dir=\(state),mode=0600", "--ctrl", "type=unixio,path=\(socket),mode=0600", "--terminate",
            "--daemon",
        ]).run()
        guard result.succeeded else {
            try await stop(socket: socket, user: user)
            throw SwiftletError(.unavailable, "TPM \(socket): swtpm ended with status \(result.status): \(result.errorText.prefix(512))")
        }
    }

    /// Ends the TPM of a machine that has not been started, or whose QEMU is gone. Succeeds when there is none.
    ///
    /// - Throws: `deadlineExceeded` when the process does not end on SIGKILL.
    public func stop(socket: String, user: MachineUser) async throws {
        try await OwnThread.run {
            let processes = ProcessTable.all(of: [user.uid]) { $0.contains("type=unixio,path=\(socket),mode=0600") }
            for process in processes where process.isAlive {
                process.kill()
                guard process.waitForExit(.seconds(5)) else {
                    throw SwiftletError(.deadlineExceeded, "TPM \(process.pid) does not end on SIGKILL")
                }
                process.reap()
            }
        }
    }
}

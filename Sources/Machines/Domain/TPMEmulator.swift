import Concurrency
import Errors
import Glibc
import Linux

/// The process that is a machine's TPM (swtpm). It ends by itself when QEMU does, and its state stays.
public struct TPMEmulator: Sendable {
    /// Where a TPM's state is.
    public enum State: Sendable, Equatable {
        /// Of the TPM alone, made where it is missing.
        case directory(String)
        /// The user's, and there; empty at first.
        case file(String)
    }

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
    ///   - state: is the TPM's, also at the next start.
    ///   - user: QEMU's.
    /// - Returns: the process, whose end leaves the machine with a TPM that does not answer.
    /// - Throws: `failedPrecondition` without the program, `unavailable` with what it says when it does not come up. It does not run then.
    public func start(socket: String, state: State, user: MachineUser) async throws -> ProcessIdentity {
        let (path, option) =
            switch state {
            case .directory(let path): (path, "dir=\(path)")
            case .file(let path): (path, "backend-uri=file://\(path)")
            }
        try MachineSpec.checkSocket(socket)
        try MachineSpec.checkPath(path)
        // swtpm's option syntax has no way to write a comma.
        guard !socket.contains(","), !path.contains(",") else {
            throw SwiftletError(.invalidArgument, "a TPM's paths cannot hold commas: \(socket), \(path)")
        }
        try await OwnThread.run {
            if let obstacle = obstacle() { throw SwiftletError(.failedPrecondition, obstacle) }
            guard case .directory = state else { return }
            guard mkdir(path, 0o700) == 0 || errno == EEXIST else { throw SwiftletError.system("make \(path)") }
            guard lchown(path, user.uid, user.gid) == 0 else { throw SwiftletError.system("chown \(path)") }
        }
        let swtpm = UnprivilegedProgram(path: program, user: user, processorTime: nil, deadline: deadline)
        let result = try await swtpm.spawn([
            "socket", "--tpm2", "--tpmstate", "\(option),mode=0600", "--ctrl", "type=unixio,path=\(socket),mode=0600", "--terminate",
            "--daemon",
        ]).run()
        guard result.succeeded else {
            try await OwnThread.run { try Self.end(find(socket, of: [user.uid], and: nil)) }
            throw SwiftletError(.unavailable, "TPM \(socket): swtpm ended with status \(result.status): \(result.errorText.prefix(512))")
        }
        // It has gone to the background: its parent's number says nothing.
        guard let process = await OwnThread.answer({ find(socket, of: [user.uid], and: nil).first }) else {
            throw SwiftletError(.unavailable, "TPM \(socket): swtpm ended right after its start")
        }
        return process
    }

    private func find(_ socket: String, of users: Set<UInt32>, and range: UserRange?) -> [ProcessIdentity] {
        ProcessTable.all(of: users, and: range) { $0.contains("type=unixio,path=\(socket),mode=0600") }
    }

    /// Ends the TPM of a machine that has not been started, or whose QEMU is gone. Succeeds when there is none.
    ///
    /// - Parameters:
    ///   - process: as `start` returned it; nil where it was never written down.
    ///   - users: whom machines run as: the process is looked for among theirs where it is not known.
    /// - Throws: `deadlineExceeded` when the process does not end on SIGKILL.
    public func stop(socket: String, process: ProcessIdentity?, users: UserRange) async throws {
        try await OwnThread.run { try Self.end(process.map { [$0] } ?? find(socket, of: [], and: users)) }
    }

    private static func end(_ processes: [ProcessIdentity]) throws {
        for process in processes where process.isAlive {
            process.kill()
            guard process.waitForExit(.seconds(5)) else {
                throw SwiftletError(.deadlineExceeded, "TPM \(process.pid) does not end on SIGKILL")
            }
            process.reap()
        }
    }
}

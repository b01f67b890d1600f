import Concurrency
import Errors
import Foundation
import Synchronization

/// The agent that many images have (qemu-guest-agent), by the unix socket of its virtio-serial port.
///
/// Commands are sent one after the other; a long process holds nobody up. The connection is kept, since the agent sleeps for 0.1 s when one
/// ends, and made anew after any failure: the port serves one client at a time.
public final class QemuAgent: Sendable {
    /// How a process ended.
    public struct Outcome: Sendable, Equatable {
        /// 128 + signal for one that a signal has ended.
        public var exitCode: Int32
        public var output: [UInt8]
        public var errorOutput: [UInt8]
        /// Output was more than the agent keeps.
        public var isCut: Bool

        public init(exitCode: Int32, output: [UInt8], errorOutput: [UInt8], isCut: Bool) {
            self.exitCode = exitCode
            self.output = output
            self.errorOutput = errorOutput
            self.isCut = isCut
        }
    }

    public enum Shutdown: String, Sendable {
        case powerdown, halt, reboot
    }

    /// Bytes of standard input: 256 KiB and more wedge the agent.
    public static let largestInput = (128 << 10) - 1

    /// For one answer: a thread waits no longer, however long a process may run.
    private static let longestAnswer = Duration.seconds(10)

    private let socket: String
    private let peer: UInt32?
    private let pool: BlockingPool
    private let replies: LargeReplies
    private let queue = SerialQueue()
    private let kept = Mutex<AgentConnection?>(nil)

    /// - Parameters:
    ///   - socket: path of the port's unix socket, which QEMU listens on.
    ///   - peer: the user that QEMU runs as: others are not spoken to. Nil: any.
    ///   - pool: of the threads that wait for guests.
    ///   - replies: of the whole node.
    public init(socket: String, peer: UInt32? = nil, pool: BlockingPool, replies: LargeReplies) {
        self.socket = socket
        self.peer = peer
        self.pool = pool
        self.replies = replies
    }

    /// - Throws: `deadlineExceeded` where no agent answers; `unavailable` where there is no port.
    public func ping(within timeout: Duration) async throws { _ = try await call(AgentRequest("guest-ping"), AgentNothing.self, timeout) }

    /// Runs a program as root and waits for its end. The guest's agent kills nothing: after the deadline it is asked to run `kill`.
    ///
    /// - Parameters:
    ///   - arguments: the program first, as it is given to execve(2), looked up in the agent's PATH.
    ///   - input: ``largestInput`` bytes at most.
    /// - Throws: `invalidArgument` for too much input; `failedPrecondition` with the agent's words, where the program cannot be started;
    ///   `deadlineExceeded`; `resourceExhausted` for output of more than some 7 MiB.
    public func run(
        _ arguments: [String], environment: [String] = [], input: [UInt8] = [], within timeout: Duration
    ) async throws -> Outcome {
        guard let program = arguments.first else { throw SwiftletError(.invalidArgument, "no program to run") }
        guard input.count <= Self.largestInput else {
            throw SwiftletError(.invalidArgument, "qemu-guest-agent takes \(Self.largestInput) bytes of input at most, not \(input.count)")
        }
        let deadline = ContinuousClock.now + timeout
        var parameters: [String: AgentRequest.Argument] = [
            "path": .text(program), "arg": .texts(Array(arguments.dropFirst())), "capture-output": .flag(true),
        ]
        if !environment.isEmpty { parameters["env"] = .texts(environment) }
        if !input.isEmpty { parameters["input-data"] = .text(Data(input).base64EncodedString()) }
        let process = try await call(AgentRequest("guest-exec", parameters), AgentProcess.self, min(timeout, Self.longestAnswer))
        do {
            if let outcome = try await outcome(of: process, by: deadline) { return outcome }
        } catch {
            await kill(process)
            throw error
        }
        await kill(process)
        throw SwiftletError(.deadlineExceeded, "\(program) had not ended after \(timeout)")
    }

    /// Also for a caller that is cancelled.
    private func kill(_ process: AgentProcess) async {
        let kill: [String: AgentRequest.Argument] = ["path": .text("kill"), "arg": .texts(["-KILL", "\(process.pid)"])]
        await Task { _ = try? await call(AgentRequest("guest-exec", kill), AgentProcess.self, .seconds(1)) }.value
    }

    /// Nil when it has not ended by the deadline.
    private func outcome(of process: AgentProcess, by deadline: ContinuousClock.Instant) async throws -> Outcome? {
        // A short command is the usual one: the pauses grow from 5 ms.
        var pause = Duration.milliseconds(5)
        while true {
            try await Task.sleep(for: pause)
            guard ContinuousClock.now < deadline else { return nil }
            let status = try await call(
                AgentRequest("guest-exec-status", ["pid": .number(process.pid)]), AgentProcessStatus.self,
                min(deadline - .now, Self.longestAnswer))
            if status.exited { return Self.outcome(status) }
            pause = min(pause * 2, .milliseconds(250))
        }
    }

    private static func outcome(_ status: AgentProcessStatus) -> Outcome {
        let code = status.exitcode ?? status.signal.map { 128 &+ $0 } ?? 255
        return Outcome(
            exitCode: Int32(truncatingIfNeeded: code), output: Array(status.output ?? Data()),
            errorOutput: Array(status.errorOutput ?? Data()),
            isCut: status.outputCut == true || status.errorOutputCut == true)
    }

    /// Sets the guest's clock, which runs behind after a pause.
    public func setTime(nanosecondsSince1970: Int, within timeout: Duration) async throws {
        _ = try await call(AgentRequest("guest-set-time", ["time": .number(nanosecondsSince1970)]), AgentNothing.self, timeout)
    }

    /// Adds lines to a user's authorized_keys; those that are there stay.
    public func addAuthorizedKeys(_ keys: [String], of user: String, within timeout: Duration) async throws {
        let request = AgentRequest("guest-ssh-add-authorized-keys", ["username": .text(user), "keys": .texts(keys)])
        _ = try await call(request, AgentNothing.self, timeout)
    }

    /// Asks the guest to end. A success is not answered; the machine's end shows it.
    public func shutDown(_ mode: Shutdown = .powerdown, within timeout: Duration) async throws {
        let request = AgentRequest("guest-shutdown", ["mode": .text(mode.rawValue)])
        try await perform("guest-shutdown", timeout) { try $0.write(request.bytes) }
    }

    private func call<Value: Decodable & Sendable>(_ request: AgentRequest, _ type: Value.Type, _ timeout: Duration) async throws -> Value {
        try await perform(request.command, timeout) { try $0.call(request, type) }
    }

    private func perform<Value: Sendable>(
        _ step: String, _ timeout: Duration, _ body: @escaping @Sendable (AgentConnection) throws -> Value
    ) async throws -> Value {
        let deadline = ContinuousClock.now + timeout
        // Also for its turn: others wait for an agent that hangs at this moment.
        return try await withDeadline(timeout + Self.margin, "qemu-guest-agent, \(step)") { [self] in
            try await inTurn(step, deadline, body)
        }
    }

    /// So that who waits for the guest itself says what it was waiting for.
    private static let margin = Duration.seconds(1)

    private func inTurn<Value: Sendable>(
        _ step: String, _ deadline: ContinuousClock.Instant, _ body: @escaping @Sendable (AgentConnection) throws -> Value
    ) async throws -> Value {
        try await queue.run { [self] in
            guard .now < deadline else { throw AgentConnection.late }
            return try await pool.run("qemu-guest-agent, \(step)") { [self] _ in
                let connection = try connection(deadline)
                do {
                    let value = try body(connection)
                    kept.withLock { $0 = connection }
                    return value
                } catch let error as SwiftletError where error.code == .failedPrecondition {
                    // The agent's own words: an answer as any other.
                    kept.withLock { $0 = connection }
                    throw error
                }
            }
        }
    }

    /// The one that is kept, or a new one.
    private func connection(_ deadline: ContinuousClock.Instant) throws -> AgentConnection {
        let former = kept.withLock { connection in
            defer { connection = nil }
            return connection
        }
        if let former, former.isQuiet {
            former.deadline = deadline
            return former
        }
        let connection = try AgentConnection(path: socket, peer: peer, replies: replies, deadline: deadline)
        try connection.synchronize()
        return connection
    }
}

import AgentProtocol
import Concurrency
import Errors
import Foundation
import Logging
import Runtime
import Synchronization

extension AgentLink {
    /// What the guest says of itself and of its containers.
    public func figures(containers: Int, within limit: Duration) async throws -> SandboxFigures {
        let answer = try await client().call(
            .getStats, AgentGetStatsRequest(), timeout: limit, limit: (64 << 10) + containers * (16 << 10))
        return mark.during { SandboxFigures(answer) }
    }

    /// Runs a process in a container and collects its output.
    ///
    /// - Parameters:
    ///   - container: of the guest's; ``AgentClient/guestContainer`` in one that is not the agent's own.
    ///   - timeout: nil or zero: none.
    /// - Throws: `.deadlineExceeded` when it runs longer, or the guest does not answer; it is killed then, and when the caller is cancelled.
    public func execute(
        _ command: [String], in container: String, timeout: Duration?, output: OutputAllowance, logger: Logger
    ) async throws -> ExecResult {
        let run = ExecRun(container: container, command: command, output: output)
        guard let timeout, timeout > .zero else { return try await execute(run, try await client(), logger) }
        let deadline = ContinuousClock.now + min(timeout, .seconds(100 * 365 * 86400))
        do {
            // Left behind at the deadline: others wait for the same connection.
            let client = try await withDeadline(timeout, "connect to the guest") { try await self.client() }
            // A client that goes away ends the wait, and with it the process.
            return try await withTimeout(deadline - .now, "exec") { try await self.execute(run, client, logger) }
        } catch let error as SwiftletError where error.code == .deadlineExceeded && deadline <= .now {
            if let result = run.result { return result }
            let reason = run.isRunning ? "ran longer than" : "was not confirmed by the guest within"
            throw SwiftletError(
                .deadlineExceeded, "exec \(quoted(command[0])) \(reason) \(timeout.components.seconds) s and was killed", cause: error)
        }
    }

    private func execute(_ run: ExecRun, _ client: AgentClient, _ logger: Logger) async throws -> ExecResult {
        // Also when the call fails: the guest may run the process all the same.
        defer { forget(run, client, logger) }
        return try await run.perform(client)
    }

    /// Kills the process if it still runs, and frees what the guest keeps of it.
    private func forget(_ run: ExecRun, _ client: AgentClient, _ logger: Logger) {
        Task {
            let request = AgentDeleteProcessRequest.with {
                $0.containerID = run.container
                $0.processID = run.process
            }
            do {
                // A guest that is frozen reads it when it goes on.
                _ = try await client.call(.deleteProcess, request, timeout: .seconds(10))
            } catch {
                logger.debug("process not forgotten", metadata: ["container": "\(run.container)", "error": "\(error)"])
            }
        }
    }
}

/// One process of ExecSync.
private final class ExecRun: Sendable {
    private struct State {
        var isRunning = false
        var output = CollectedOutput()
        var exitCode: Int32?
    }

    let container: String
    let process = UUID().uuidString.lowercased()
    private let command: [String]
    private let allowance: OutputAllowance
    private let state = Mutex(State())

    init(container: String, command: [String], output: OutputAllowance) {
        self.container = container
        self.command = command
        allowance = output
    }

    /// Whether the guest has said that it runs, or has run.
    var isRunning: Bool { state.withLock { $0.isRunning } }

    /// Once the process has ended: with the output so far.
    var result: ExecResult? {
        state.withLock { state in
            state.exitCode.map {
                ExecResult(stdout: state.output.stdout, stderr: state.output.stderr, exitCode: $0, isCut: state.output.isCut)
            }
        }
    }

    func perform(_ client: AgentClient) async throws -> ExecResult {
        let token = AgentClient.token()
        let request = AgentExecRequest.with {
            $0.containerID = container
            $0.processID = process
            $0.process = .with { $0.args = command }
            $0.inherit = true
            $0.outputToken = Data(token)
        }
        do {
            _ = try await client.call(.exec, request, timeout: .seconds(25))
        } catch {
            throw SwiftletError.wrap(error, "exec in container \(container)")
        }
        state.withLock { $0.isRunning = true }
        async let exit: Void = waitForExit(client)
        let stream = try await client.openOutput(token: token)
        defer { stream.close() }
        // The guest ends it with the process.
        for try await chunk in stream {
            let (received, isComplete) = try state.withLock { state in
                (try state.output.take(chunk, allowance), state.output.isComplete)
            }
            stream.acknowledge(stdout: received.stdout, stderr: received.stderr)
            if isComplete { break }
        }
        try await exit
        guard let result else { throw SwiftletError(.internal, "exec \(quoted(command[0])) has no exit code") }
        return result
    }

    private func waitForExit(_ client: AgentClient) async throws {
        let status = try await client.wait(containerID: container, processID: process)
        state.withLock { $0.exitCode = Int32(clamping: status.exitCode) }
    }
}

/// Both sources of a process's output, as far as they may be kept; the rest is counted and dropped.
private struct CollectedOutput {
    var stdout: [UInt8] = []
    var stderr: [UInt8] = []
    private(set) var isCut = false
    private var received = OutputOffsets()
    private var ended: (stdout: Bool, stderr: Bool) = (false, false)

    var isComplete: Bool { ended.stdout && ended.stderr }

    mutating func take(_ chunk: OutputChunk, _ allowance: OutputAllowance) throws -> OutputOffsets {
        let kept = chunk.bytes.prefix(try allowance.take(chunk.bytes.count))
        isCut = isCut || kept.count < chunk.bytes.count
        switch chunk.source {
        case .stdout:
            stdout.append(contentsOf: kept)
            received.stdout += UInt64(chunk.bytes.count)
            ended.stdout = ended.stdout || chunk.end
        case .stderr:
            stderr.append(contentsOf: kept)
            received.stderr += UInt64(chunk.bytes.count)
            ended.stderr = ended.stderr || chunk.end
        }
        return received
    }
}

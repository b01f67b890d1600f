import AgentClient
import AgentProtocol
import Concurrency
import Errors
import Foundation
import Logging
import Runtime

extension MicroVMSandbox {
    func execute(_ id: String, _ command: [String], timeout: Duration?, outputLimit: Int) async throws -> ExecResult {
        let client = try await link.client()
        let processID = UUID().uuidString.lowercased()
        let token = AgentClient.token()
        let request = AgentExecRequest.with {
            $0.containerID = id
            $0.processID = processID
            $0.process = .with { $0.args = command }
            $0.inherit = true
            $0.outputToken = Data(token)
        }
        // Also when the call fails: the guest may run the process all the same.
        defer { forget(id, processID, client) }
        _ = try await client.call(.exec, request, timeout: .seconds(25))
        guard let timeout, timeout > .zero else {
            return try await Self.collect(client, id, processID, token, outputLimit)
        }
        do {
            // A client that goes away ends the wait, and with it the process.
            return try await withTimeout(timeout, "exec \(quoted(command[0]))") {
                try await Self.collect(client, id, processID, token, outputLimit)
            }
        } catch let error as SwiftletError where error.code == .deadlineExceeded {
            throw SwiftletError(
                .deadlineExceeded, "exec \(quoted(command[0])) ran longer than \(timeout.components.seconds) s and was killed"
            )
        }
    }

    private static func collect(
        _ client: AgentClient, _ id: String, _ processID: String, _ token: [UInt8], _ limit: Int
    ) async throws -> ExecResult {
        async let exit = client.wait(containerID: id, processID: processID)
        let stream = try await client.openOutput(token: token)
        defer { stream.close() }
        var output = CollectedOutput(limit: limit)
        for try await chunk in stream {
            let received = output.take(chunk)
            stream.acknowledge(stdout: received.stdout, stderr: received.stderr)
            if output.isComplete { break }
        }
        let status = try await exit
        return ExecResult(stdout: output.stdout, stderr: output.stderr, exitCode: Int32(clamping: status.exitCode))
    }

    /// Kills the process if it still runs, and frees what the guest keeps of it.
    private func forget(_ id: String, _ processID: String, _ client: AgentClient) {
        let logger = logger
        Task {
            let request = AgentDeleteProcessRequest.with {
                $0.containerID = id
                $0.processID = processID
            }
            do {
                _ = try await client.call(.deleteProcess, request, timeout: .seconds(10))
            } catch {
                logger.debug("process not forgotten", metadata: ["container": "\(id)", "error": "\(error)"])
            }
        }
    }
}

/// Both sources of a process's output, up to a limit together; the rest is counted and dropped.
private struct CollectedOutput {
    let limit: Int
    var stdout: [UInt8] = []
    var stderr: [UInt8] = []
    private var received = OutputOffsets()
    private var ended: (stdout: Bool, stderr: Bool) = (false, false)

    init(limit: Int) {
        self.limit = limit
    }

    var isComplete: Bool { ended.stdout && ended.stderr }

    mutating func take(_ chunk: OutputChunk) -> OutputOffsets {
        switch chunk.source {
        case .stdout:
            stdout.append(contentsOf: chunk.bytes.prefix(limit - stdout.count - stderr.count))
            received.stdout += UInt64(chunk.bytes.count)
            ended.stdout = ended.stdout || chunk.end
        case .stderr:
            stderr.append(contentsOf: chunk.bytes.prefix(limit - stdout.count - stderr.count))
            received.stderr += UInt64(chunk.bytes.count)
            ended.stderr = ended.stderr || chunk.end
        }
        return received
    }
}

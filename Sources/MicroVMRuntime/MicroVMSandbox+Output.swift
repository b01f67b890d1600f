import AgentClient
import AgentProtocol
import Concurrency
import Errors
import Foundation
import Logging
import Runtime

extension MicroVMSandbox {
    func pumpOutput(_ id: String, into sink: any OutputSink) async throws {
        var ended: Set<StandardStream> = []
        var pause = Duration.milliseconds(50)
        while ended.count < 2 {
            do {
                let safe = try await sink.flush()
                try await pumpOnce(id, into: sink, safe, &ended)
                pause = .milliseconds(50)
            } catch let error as SwiftletError where error.code == .notFound || error.code == .cancelled || link.isLost {
                throw error
            } catch {
                // A full disk, a stalled guest, a lost connection: the guest keeps the output meanwhile.
                try Task.checkCancellation()
                logger.debug("output interrupted", metadata: ["container": "\(id)", "error": "\(error)"])
                try await Task.sleep(for: pause)
                pause = min(pause * 2, .seconds(2))
            }
        }
    }

    private func pumpOnce(_ id: String, into sink: any OutputSink, _ safe: OutputOffsets, _ ended: inout Set<StandardStream>) async throws {
        let client = try await link.client()
        let token = Self.token()
        var offsets = await sink.received()
        do {
            try await openOutput(client, id, token, offsets)
        } catch let error as SwiftletError where error.code == .outOfRange {
            // The log counts other bytes than the guest: two containers wrote to one file. Go on where the guest is.
            offsets = try await acknowledged(client, id)
            try await openOutput(client, id, token, offsets)
        }
        let stream = try await client.openOutput(token: token, stdoutOffset: offsets.stdout, stderrOffset: offsets.stderr)
        defer { stream.close() }
        stream.acknowledge(stdout: safe.stdout, stderr: safe.stderr)
        try await copy(stream, to: sink, &ended)
    }

    private func openOutput(_ client: AgentClient, _ id: String, _ token: [UInt8], _ offsets: OutputOffsets) async throws {
        let request = AgentOpenStreamRequest.with {
            $0.containerID = id
            $0.kind = .output
            $0.token = Data(token)
            $0.stdoutOffset = offsets.stdout
            $0.stderrOffset = offsets.stderr
        }
        _ = try await client.call(.openStream, request, timeout: .seconds(10))
    }

    private func acknowledged(_ client: AgentClient, _ id: String) async throws -> OutputOffsets {
        let containers = try await client.call(.list, AgentListRequest(), timeout: .seconds(10)).containers
        guard let process = containers.first(where: { $0.containerID == id })?.process else {
            throw SwiftletError(.notFound, "container \(id): the guest does not know it")
        }
        return OutputOffsets(stdout: process.stdoutAcknowledged, stderr: process.stderrAcknowledged)
    }

    private func copy(_ stream: AgentOutputStream, to sink: any OutputSink, _ ended: inout Set<StandardStream>) async throws {
        for try await chunk in stream {
            let source = chunk.source.stream
            if !chunk.bytes.isEmpty {
                let safe = try await sink.take(chunk.bytes, from: source)
                stream.acknowledge(stdout: safe.stdout, stderr: safe.stderr)
            }
            if chunk.end {
                ended.insert(source)
                let safe = try await sink.finish(source)
                stream.acknowledge(stdout: safe.stdout, stderr: safe.stderr)
            }
        }
        guard ended.count == 2 else { throw SwiftletError(.unavailable, "output stream ended early") }
    }

    /// 32 random bytes.
    static func token() -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }

    // MARK: Exec

    func execute(_ id: String, _ command: [String], timeout: Duration?, outputLimit: Int) async throws -> ExecResult {
        let client = try await link.client()
        let processID = UUID().uuidString.lowercased()
        let token = Self.token()
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

extension OutputSource {
    fileprivate var stream: StandardStream {
        switch self {
        case .stdout: .stdout
        case .stderr: .stderr
        }
    }
}

import AgentClient
import AgentProtocol
import Errors
import Foundation
import Runtime

/// Output of a process in a guest, taken from its agent as swiftlet-streamd takes it, without swiftlet-streamd.
struct AgentTransfer {
    /// Runs a command in a container and reads what it writes to its end.
    static func take(_ command: [String], in container: String, at address: VsockAddress) async throws -> Throughput {
        let client = try await AgentClient.connect(to: address, deadline: .now + .seconds(10))
        defer { client.close() }
        let (process, token) = (UUID().uuidString.lowercased(), AgentClient.token())
        let request = AgentExecRequest.with {
            ($0.containerID, $0.processID, $0.inherit) = (container, process, true)
            $0.process.args = command
            $0.outputToken = Data(token)
        }
        _ = try await client.call(.exec, request, timeout: .seconds(25))
        var count = TransferCount()
        let output = try await client.openOutput(token: token)
        var errors: UInt64 = 0
        for try await chunk in output {
            if chunk.source == .stdout { count.add(chunk.bytes.count) } else { errors += UInt64(chunk.bytes.count) }
            output.acknowledge(stdout: UInt64(count.bytes), stderr: errors)
        }
        let forget = AgentDeleteProcessRequest.with { ($0.containerID, $0.processID) = (container, process) }
        _ = try await client.call(.deleteProcess, forget, timeout: .seconds(10))
        guard let throughput = count.throughput else { throw SwiftletError(.dataLoss, "\(command.first ?? "") wrote \(count.bytes) bytes") }
        return throughput
    }
}

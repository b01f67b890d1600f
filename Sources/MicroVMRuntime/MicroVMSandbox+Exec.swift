import AgentClient
import Runtime

extension MicroVMSandbox {
    func execute(_ id: String, _ command: [String], timeout: Duration?, output: OutputAllowance) async throws -> ExecResult {
        try await link.execute(command, in: id, timeout: timeout, output: output, logger: logger)
    }
}

import AgentClient
import ConsoleOutput
import Errors
import Logging
import Runtime

/// Reads the containers' output, wherever it is.
struct EndpointOutput: OutputReader {
    private let agents: AgentOutput
    private let consoles: ConsoleReader

    init(links: AgentLinks, logger: Logger) {
        (agents, consoles) = (AgentOutput(links: links, logger: logger), ConsoleReader(logger: logger))
    }

    func copy(from endpoint: OutputEndpoint, to sink: any OutputSink, until end: OutputEnd) async throws {
        switch endpoint {
        case .agent: try await agents.copy(from: endpoint, to: sink, until: end)
        case .conmon: throw SwiftletError(.notFound, "conmon writes its container's log itself")
        case .console: try await consoles.copy(from: endpoint, to: sink, until: end)
        }
    }
}

import Logs
import Runtime

/// Writes the logs in this process, where swiftlet-streamd does it for swiftletd.
struct InProcessOutput: ContainerOutput {
    let logs: LocalOutput

    func open(_ log: LogTarget) async throws { try await logs.open(log) }
    func follow(_ container: String, from endpoint: OutputEndpoint) { try? logs.follow(container, from: endpoint) }
    func collect(_ log: LogTarget) {}
    func reopen(_ container: String) async throws { try await logs.reopen(container) }
    func drained(_ container: String) async { try? await logs.drained(container) }
    func liftBudget(of container: String) async { Task { try? await logs.drained(container, liftingBudget: true) } }
    func close(_ container: String) async { logs.close(container) }
    func remove(_ container: String) async { await logs.remove(container) }
    func keep(only containers: Set<String>) async { await logs.keep(only: containers, forget: true) }
}

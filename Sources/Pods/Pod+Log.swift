import Errors
import Runtime

extension Pod {
    /// Goes on in the file that the container's log path names now.
    ///
    /// - Throws: `.failedPrecondition` when the container does not run.
    func reopenLog(_ id: String) async throws {
        let container = try container(id)
        guard container.isRunning else {
            throw SwiftletError(.failedPrecondition, "container \(id) is \(container.state.name); only a running one's log can be reopened")
        }
        if !hasLogs, let writer = try await readyMachine() as? any LogWritingSandbox { return try await writer.reopenLog(of: id) }
        do {
            try await context.output.reopen(id)
        } catch let error as SwiftletError where error.code == .failedPrecondition && machine == nil && state.isUp {
            // Right after a restart of the daemon it is opened together with the machine's return.
            _ = try await readyMachine()
            try await context.output.reopen(id)
        }
    }
}

extension PodRegistry {
    /// Goes on in the file that the container's log path names now, after the client has renamed the old one.
    ///
    /// - Throws: `.notFound`; `.failedPrecondition` when the container does not run or the file cannot be opened.
    public func reopenLog(of id: String) async throws {
        let (pod, id) = try podOfContainer(id)
        try await pod.reopenLog(id)
    }
}

import CRI
import Errors
import StreamClient

/// Joins a container's first process with this process's standard streams.
struct ContainerAttachment: Sendable {
    let container: String
    /// What is being done, for errors.
    let step: String
    let hasStdin: Bool
    let hasTerminal: Bool
    let detachKeys: DetachKeys
    /// Signals end this process at once; else they are the caller's.
    var endsBySignals = true

    func run(_ daemon: Daemon, _ connector: SessionConnector) async throws -> CommandSession.End {
        let url = try await daemon.call(
            RuntimeRPC.attach,
            .with {
                $0.containerID = container
                ($0.stdin, $0.stdout, $0.stderr, $0.tty) = (hasStdin, true, !hasTerminal, hasTerminal)
            }, step
        ).url
        let session = CommandSession(
            hasStdin: hasStdin, hasTerminal: hasTerminal, detachKeys: detachKeys, endsBySignals: endsBySignals)
        do {
            return try await session.run(try await connector.command(at: url))
        } catch {
            throw SwiftletError.wrap(error, step)
        }
    }
}

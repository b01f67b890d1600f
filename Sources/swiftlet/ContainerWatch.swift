import CRI
import Errors

/// Looks at one container.
enum ContainerWatch {
    static func status(of id: String, _ daemon: Daemon) async throws -> CRIContainerStatus {
        try await daemon.call(
            RuntimeRPC.containerStatus, .with { $0.containerID = id }, "asking for container \(Units.short(id))"
        ).status
    }

    /// Waits until the container has exited.
    ///
    /// - Throws: `SwiftletError` when it is gone, or can no longer be asked; `CancellationError`.
    static func exit(of id: String, _ daemon: Daemon) async throws -> CRIContainerStatus {
        var pause = Duration.milliseconds(20)
        while true {
            let status = try await status(of: id, daemon)
            switch status.state {
            case .containerExited: return status
            case .containerUnknown:
                throw SwiftletError(.unavailable, "container \(Units.short(id)): its pod cannot be asked any longer; see swiftlet ps -a")
            default: break
            }
            try await Task.sleep(for: pause)
            pause = min(pause * 2, .milliseconds(250))
        }
    }
}

import CRI
import Errors

/// Takes a pod away, and with it the log directory that `swiftlet run` made for it.
enum PodRemoval {
    static func remove(_ id: String, name: String, _ daemon: Daemon) async throws {
        let status = try? await daemon.call(
            RuntimeRPC.podSandboxStatus, .with { $0.podSandboxID = id }, "asking for pod \(name)"
        ).status
        _ = try await daemon.call(
            RuntimeRPC.stopPodSandbox, .with { $0.podSandboxID = id }, "stopping pod \(name)", within: Daemon.Patience.end)
        _ = try await daemon.call(
            RuntimeRPC.removePodSandbox, .with { $0.podSandboxID = id }, "removing pod \(name)", within: Daemon.Patience.end)
        if let directory = status.flatMap(LogDirectory.init(of:)) { directory.remove() }
    }
}

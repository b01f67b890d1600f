import CRI
import Errors

/// Looks after a pod that something waits for.
enum PodWatch {
    private static let pause = Duration.seconds(2)

    /// Waits until the pod is not ready any more. A daemon that does not answer says nothing about it.
    ///
    /// - Returns: why.
    static func end(of id: String, name: String, _ daemon: Daemon) async throws -> SwiftletError {
        while true {
            try await Task.sleep(for: pause)
            do {
                let reply = try await daemon.call(RuntimeRPC.podSandboxStatus, .with { $0.podSandboxID = id }, "asking for pod \(name)")
                if reply.status.state != .sandboxReady { return SwiftletError(.unavailable, "pod \(name) does not run any more") }
            } catch let error as SwiftletError where error.code == .notFound {
                return SwiftletError(.unavailable, "pod \(name) is gone")
            } catch is SwiftletError {}
        }
    }
}

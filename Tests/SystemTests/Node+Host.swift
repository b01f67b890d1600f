import CRI
import GRPC

extension Node {
    /// Runs a pod on the node, as a kubelet asks for it: its containers have PID namespaces of their own.
    func runHostPod(
        _ name: String, handler: String = "host", _ change: (inout CRIPodSandboxConfig) -> Void = { _ in }
    ) async throws -> String {
        let config = podConfig(name) {
            $0.linux.securityContext.namespaceOptions.pid = .container
            change(&$0)
        }
        return try await cri.call(
            RuntimeRPC.runPodSandbox,
            .with {
                $0.config = config
                $0.runtimeHandler = handler
            }
        ).podSandboxID
    }
}

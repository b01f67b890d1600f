import AgentProtocol
import Errors

extension Pod {
    /// Checks what a container's namespaces have to do with those of its pod and of others.
    ///
    /// - Throws: `.invalidArgument` naming the field.
    func checkNamespaces(_ spec: ContainerSpec) throws {
        if spec.pidMode == .target { try requireRunning(spec.pidTarget) }
        if spec.security.ipcMode == .target { try requireRunning(spec.security.ipcTarget) }
        guard spec.security.userNamespace == self.spec.userNamespace else {
            throw SwiftletError(
                .invalidArgument,
                "config.linux.security_context.namespace_options.userns_options of container \(spec.metadata.name) differs from its pod's")
        }
    }

    private func requireRunning(_ target: String) throws {
        guard let container = containers[target], container.isRunning else {
            throw SwiftletError(
                .invalidArgument, "namespace_options.target_id \(quoted(target)) is no running container of the pod")
        }
    }

    /// The profile that the guest is to compile; nil for none. A privileged container has none, as with containerd.
    func seccomp(of spec: ContainerSpec) async throws -> AgentSeccompProfile? {
        guard !spec.privileged else { return nil }
        switch spec.security.seccomp {
        case .unconfined: return nil
        case .runtimeDefault: return .with { $0.runtimeDefault = true }
        case .localhost(let path): return try await SeccompProfileFile.load(path)
        }
    }
}

extension SandboxSpec {
    /// The client's sysctls, and those that a user namespace needs.
    var guestSysctls: [String: String] {
        guard userNamespace != nil else { return sysctls }
        // The network namespace is the guest's, where root of a user namespace has no capability: what the default capability
        // NET_BIND_SERVICE is for is open to everybody in this pod.
        let opened = ["net.ipv4.ip_unprivileged_port_start": "0"]
        return sysctls.merging(opened) { asked, _ in asked }
    }
}

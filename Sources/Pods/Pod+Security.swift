import Errors
import Runtime

extension Pod {
    /// Checks what a container's namespaces have to do with those of its pod and of others.
    ///
    /// - Throws: `.invalidArgument` naming the field.
    func checkNamespaces(_ spec: ContainerSpec) throws {
        guard spec.networkMode == self.spec.networkMode else {
            throw SwiftletError(
                .invalidArgument,
                "config.linux.security_context.namespace_options.network of container \(spec.metadata.name) differs from its pod's")
        }
        if spec.pidMode == .target { try requireRunning(spec.pidTarget) }
        if spec.security.ipcMode == .target { try requireRunning(spec.security.ipcTarget) }
        guard spec.security.userNamespace == self.spec.userNamespace else {
            throw SwiftletError(
                .invalidArgument,
                "config.linux.security_context.namespace_options.userns_options of container \(spec.metadata.name) differs from its pod's")
        }
        try checkImageMappings(spec)
    }

    /// The files of an image have the owners that those of the container's own image have.
    private func checkImageMappings(_ spec: ContainerSpec) throws {
        for mount in spec.mounts where !mount.image.isEmpty && mount.mappings != nil {
            guard mount.mappings == self.spec.userNamespace else {
                throw SwiftletError(
                    .invalidArgument,
                    "config.mounts \(quoted(mount.containerPath)): uidMappings and gidMappings of an image are not those of the pod's user namespace"
                )
            }
        }
    }

    private func requireRunning(_ target: String) throws {
        guard let container = containers[target], container.isRunning else {
            throw SwiftletError(
                .invalidArgument, "namespace_options.target_id \(quoted(target)) is no running container of the pod")
        }
    }

    /// Which system calls the container may make; nil for all. A privileged container has no filter, as with containerd.
    func seccomp(of spec: ContainerSpec) async throws -> SeccompPlan? {
        guard !spec.privileged else { return nil }
        switch spec.security.seccomp {
        case .unconfined: return nil
        case .runtimeDefault: return .runtimeDefault
        case .localhost(let path): return .profile(try await SeccompProfileFile.load(path), path: path)
        }
    }
}

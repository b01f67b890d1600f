import Errors

/// What pods may ask of a runtime handler, as data. What a handler cannot do is refused by the field that asks for it, never ignored.
public struct HandlerCapabilities: Sendable, Equatable {
    /// Operations that a handler's sandboxes have.
    public enum Operation: String, Sendable {
        case exec
        case attach
        case portForward
        case resize
        case pause
        case checkpoint
    }

    /// What the images that its containers are made of hold.
    public enum ImageKind: String, Sendable {
        case layers
        case disk
    }

    public var networkModes: Set<NetworkMode> = [.pod]
    /// The node's namespaces that its pods may share.
    public var nodeNamespaces: Set<NodeNamespace> = []
    /// Mount.recursive_read_only is honoured.
    public var recursiveReadOnlyMounts = false
    /// Pods may have a user namespace of their own.
    public var userNamespaces = false
    /// Paths of the node's devices that a container may be given; nil for all.
    public var devices: Set<String>? = []
    /// Containers may be given devices of the Container Device Interface.
    public var cdiDevices = false
    /// Policies of the node's security modules confine its containers.
    public var securityPolicies: Set<SecurityModule> = []
    /// Mounts that are made in a container may reach the node.
    public var bidirectionalMounts = false
    /// Containers' logs are written by processes of the handler's own (``LogWritingSandbox``): budgets are not theirs, and rotation by size is
    /// the handler's.
    public var writesLogs = false
    /// Containers may be given huge pages.
    public var hugePages = false
    public var operations: Set<Operation> = [.exec]
    public var images: Set<ImageKind> = [.layers]

    public init() {}
}

/// What the node's kernel may enforce policies with.
public enum SecurityModule: String, Sendable {
    case appArmor = "AppArmor"
    case selinux = "SELinux"
}

/// A namespace of the node, beside its network, that a pod may ask to share.
public enum NodeNamespace: String, Codable, Sendable {
    case pid
    case ipc
}

extension HandlerCapabilities {
    private static let namespaces = "config.linux.security_context.namespace_options"

    /// - Throws: `.invalidArgument` or `.unimplemented` naming the field that asks for what `handler` does not have.
    public func check(_ spec: SandboxSpec, handler: String) throws {
        if !networkModes.contains(spec.networkMode) { throw Self.refusal("\(Self.namespaces).network", spec.networkMode == .node, handler) }
        for namespace in [NodeNamespace.pid, .ipc] where spec.nodeNamespaces.contains(namespace) && !nodeNamespaces.contains(namespace) {
            throw Self.refusal("\(Self.namespaces).\(namespace.rawValue)", true, handler)
        }
        if spec.userNamespace != nil, !userNamespaces {
            throw SwiftletError(.invalidArgument, "\(Self.namespaces).userns_options: runtime handler \(handler) has no user namespaces")
        }
        try check(spec.policies, handler: handler)
        try spec.resources.map { try check($0, "config.linux.resources", handler: handler) }
        try spec.overhead.map { try check($0, "config.linux.overhead", handler: handler) }
    }

    /// - Throws: `.invalidArgument` or `.unimplemented` naming the field that asks for what `handler` does not have.
    public func check(_ spec: ContainerSpec, handler: String) throws {
        for namespace in [NodeNamespace.pid, .ipc] where spec.shares(namespace) && !nodeNamespaces.contains(namespace) {
            throw Self.refusal("\(Self.namespaces).\(namespace.rawValue)", true, handler)
        }
        for device in spec.security.devices {
            guard let devices, !devices.contains(device.hostPath) else { continue }
            throw SwiftletError(
                .unimplemented,
                "config.devices: \(quoted(device.hostPath)): runtime handler \(handler) cannot give a container this device of the node; "
                    + "it has \(devices.sorted().joined(separator: ", "))")
        }
        if let device = spec.security.cdiDevices?.first, !cdiDevices {
            throw SwiftletError(
                .unimplemented,
                "config.CDI_devices \(quoted(device.qualified)): runtime handler \(handler) gives its containers no CDI devices; use a "
                    + "RuntimeClass whose handler runs on the node and has host.cdi_spec_dirs")
        }
        for mount in spec.mounts where mount.propagation == .bidirectional && !bidirectionalMounts {
            throw SwiftletError(
                .invalidArgument,
                "config.mounts \(quoted(mount.containerPath)): propagation PROPAGATION_BIDIRECTIONAL: mounts made in containers of runtime "
                    + "handler \(handler) cannot reach the node; use PROPAGATION_HOST_TO_CONTAINER or PROPAGATION_PRIVATE")
        }
        try check(spec.security.policies, handler: handler)
        try check(spec.resources, "config.linux.resources", handler: handler)
    }

    /// - Parameter field: where the client wrote them, for the message.
    /// - Throws: `.unimplemented` naming the field that asks for what `handler` does not have.
    public func check(_ resources: LinuxResources, _ field: String, handler: String) throws {
        for limit in resources.hugepageLimits where limit.limit > 0 && !hugePages {
            throw SwiftletError(
                .unimplemented,
                "\(field).hugepage_limits \(quoted(limit.pageSize)): runtime handler \(handler) gives its containers no huge pages; ask for "
                    + "0 bytes")
        }
    }

    /// - Parameter image: as the client named it.
    /// - Throws: `.invalidArgument` for an image that holds what `handler` cannot run.
    public func check(_ content: ImageContent, image: String, handler: String) throws {
        switch content {
        case .layers where !images.contains(.layers):
            throw SwiftletError(
                .invalidArgument,
                "config.image \(quoted(image)): it is a container image, and runtime handler \(handler) boots disk images; use a "
                    + "RuntimeClass whose handler runs containers, as microvm does")
        case .disk where !images.contains(.disk):
            throw SwiftletError(
                .invalidArgument,
                "config.image \(quoted(image)): it is a disk image, and runtime handler \(handler) runs container images; use a "
                    + "RuntimeClass whose handler is vm")
        case .layers, .disk: return
        }
    }

    private func check(_ policies: SecurityPolicies?, handler: String) throws {
        let fields: [(SecurityModule, String?, String)] = [
            (.appArmor, policies?.appArmorProfile, "apparmor"), (.selinux, policies?.selinuxType, "selinux_options.type"),
        ]
        for case (let module, let policy?, let field) in fields where !securityPolicies.contains(module) {
            throw SwiftletError(
                .unimplemented,
                "config.linux.security_context.\(field) \(quoted(policy)): runtime handler \(handler) has no \(module.rawValue) to enforce "
                    + "it")
        }
    }

    private static func refusal(_ field: String, _ isNode: Bool, _ handler: String) -> SwiftletError {
        SwiftletError(
            .invalidArgument,
            isNode
                ? "\(field): pods of runtime handler \(handler) cannot share the node's namespaces; use a RuntimeClass whose handler runs "
                    + "on the node"
                : "\(field): runtime handler \(handler) gives its pods no network of their own")
    }
}

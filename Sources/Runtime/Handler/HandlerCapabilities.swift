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
    public enum ImageContent: String, Sendable {
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
    public var operations: Set<Operation> = [.exec]
    public var images: Set<ImageContent> = [.layers]

    public init() {}
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

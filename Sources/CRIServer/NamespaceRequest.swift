import CRI
import Errors
import Pods
import Runtime
import Volumes

/// Validates a NamespaceOption.
enum NamespaceRequest {
    /// What a sandbox may ask for. - Returns: its user namespace.
    static func sandbox(_ options: CRINamespaceOption, _ field: String) throws -> IDMappings? {
        try refuse([.node, .container, .target], options.network, "\(field).network")
        try refuse([.node, .target], options.pid, "\(field).pid")
        try refuse([.node, .target], options.ipc, "\(field).ipc")
        return try userNamespace(options, "\(field).userns_options")
    }

    static func add(_ options: CRINamespaceOption, to spec: inout ContainerSpec, _ field: String) throws {
        try refuse([.node, .container, .target], options.network, "\(field).network")
        try refuse([.node], options.pid, "\(field).pid")
        try refuse([.node], options.ipc, "\(field).ipc")
        try Validation.word(options.targetID, "\(field).target_id")
        guard !options.targetID.isEmpty || (options.pid != .target && options.ipc != .target) else {
            throw SwiftletError(.invalidArgument, "\(field).target_id is missing: it names the container that TARGET means")
        }
        switch options.pid {
        case .pod: spec.pidMode = .pod
        case .target:
            spec.pidMode = .target
            spec.pidTarget = options.targetID
        case .container, .node, .UNRECOGNIZED: spec.pidMode = .container
        }
        switch options.ipc {
        case .container: spec.security.ipcMode = .container
        case .target:
            spec.security.ipcMode = .target
            spec.security.ipcTarget = options.targetID
        case .pod, .node, .UNRECOGNIZED: spec.security.ipcMode = .pod
        }
        spec.security.userNamespace = try userNamespace(options, "\(field).userns_options")
    }

    private static func refuse(_ modes: [CRINamespaceMode], _ mode: CRINamespaceMode, _ field: String) throws {
        if case .UNRECOGNIZED(let value) = mode { throw SwiftletError(.invalidArgument, "\(field): mode \(value) is unknown") }
        guard modes.contains(mode) else { return }
        if mode == .node {
            throw SwiftletError(
                .invalidArgument,
                "\(field): a pod in a virtual machine cannot share the node's namespaces; use a RuntimeClass whose handler runs on the node"
            )
        }
        throw SwiftletError(.invalidArgument, "\(field): mode \(mode) is not possible here")
    }

    /// One range of each kind, as other runtimes want it, and with root in it.
    private static func userNamespace(_ options: CRINamespaceOption, _ field: String) throws -> IDMappings? {
        guard options.hasUsernsOptions else { return nil }
        let namespace = options.usernsOptions
        switch namespace.mode {
        case .node:
            guard namespace.uids.isEmpty, namespace.gids.isEmpty else {
                throw SwiftletError(.invalidArgument, "\(field): uids and gids do not go with mode NODE")
            }
            return nil
        case .pod: break
        case .container, .target, .UNRECOGNIZED:
            throw SwiftletError(.invalidArgument, "\(field).mode \(namespace.mode): only POD and NODE are possible")
        }
        return IDMappings(
            uids: [try mapping(namespace.uids, "\(field).uids")], gids: [try mapping(namespace.gids, "\(field).gids")])
    }

    private static func mapping(_ mappings: [CRIIDMapping], _ field: String) throws -> IDMapping {
        guard mappings.count == 1, let first = mappings.first else {
            throw SwiftletError(.invalidArgument, "\(field) has \(mappings.count) ranges; exactly one is possible")
        }
        let mapping = try IDMapping(first, field)
        guard mapping.containerID == 0 else {
            throw SwiftletError(.invalidArgument, "\(field): container_id \(mapping.containerID) leaves root without an id; begin with 0")
        }
        return mapping
    }
}

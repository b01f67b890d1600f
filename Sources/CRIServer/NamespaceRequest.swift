import CRI
import Errors
import Pods
import Runtime

/// Validates a NamespaceOption.
enum NamespaceRequest {
    /// What a sandbox may ask for.
    static func add(_ options: CRINamespaceOption, to spec: inout SandboxSpec, _ field: String) throws {
        try refuse([.container, .target], options.network, "\(field).network")
        try refuse([.target], options.pid, "\(field).pid")
        try refuse([.target], options.ipc, "\(field).ipc")
        spec.networkMode = options.network == .node ? .node : .pod
        spec.nodeNamespaces = (options.pid == .node ? [.pid] : []) + (options.ipc == .node ? [.ipc] : [])
        spec.sharesPidNamespace = options.pid == .pod
        spec.separatesIPC = options.ipc == .container
        spec.userNamespace = try userNamespace(options, "\(field).userns_options")
    }

    static func add(_ options: CRINamespaceOption, to spec: inout ContainerSpec, _ field: String) throws {
        try refuse([.container, .target], options.network, "\(field).network")
        try refuse([], options.pid, "\(field).pid")
        try refuse([], options.ipc, "\(field).ipc")
        spec.networkMode = options.network == .node ? .node : .pod
        try Validation.word(options.targetID, "\(field).target_id")
        guard !options.targetID.isEmpty || (options.pid != .target && options.ipc != .target) else {
            throw SwiftletError(.invalidArgument, "\(field).target_id is missing: it names the container that TARGET means")
        }
        switch options.pid {
        case .pod: spec.pidMode = .pod
        case .target:
            spec.pidMode = .target
            spec.pidTarget = options.targetID
        case .node: spec.pidMode = .node
        case .container, .UNRECOGNIZED: spec.pidMode = .container
        }
        switch options.ipc {
        case .container: spec.security.ipcMode = .container
        case .target:
            spec.security.ipcMode = .target
            spec.security.ipcTarget = options.targetID
        case .node: spec.security.ipcMode = .node
        case .pod, .UNRECOGNIZED: spec.security.ipcMode = .pod
        }
        spec.security.userNamespace = try userNamespace(options, "\(field).userns_options")
    }

    private static func refuse(_ modes: [CRINamespaceMode], _ mode: CRINamespaceMode, _ field: String) throws {
        if case .UNRECOGNIZED(let value) = mode { throw SwiftletError(.invalidArgument, "\(field): mode \(value) is unknown") }
        guard modes.contains(mode) else { return }
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

import Linux
import Runtime
import State

extension ResourceKind {
    /// A namespace of a pod on the node, bound at the path that is its name.
    static let hostNamespace = ResourceKind("hostNamespace")
    /// A filesystem of a pod on the node, mounted at the path that is its name.
    static let hostMount = ResourceKind("hostMount")
    /// The first process of the PID namespace that the containers of a pod on the node share, by the pod's id.
    static let hostPause = ResourceKind("hostPause")
    /// The root of a container on the node, by its bundle.
    static let hostRoot = ResourceKind("hostRoot")
    /// A container on the node with the conmon that watches it, by its id.
    static let hostContainer = ResourceKind("hostContainer")
}

/// What the release of a container's root needs.
struct HostRootDocument: StoredDocument {
    static let what = "ledger document of a root on the node"

    /// Serials of the layers that it is stacked from.
    var layers: [String]
}

/// What ends a container on the node.
struct HostContainerDocument: StoredDocument {
    static let what = "ledger document of a container on the node"

    var bundle: String
    /// The OCI runtime and where it keeps its state.
    var runtime: String
    var runtimeRoot: String
    /// Nil: none.
    var runtimeOptions: [String]?
    /// The first process and conmon; nil until they are known.
    var process: ProcessIdentity?
    var monitor: ProcessIdentity?
    /// Of the container's processes, once it is known.
    var cgroup: [ContainerCgroup.Directory] = []
    /// That conmon is in; nil: the daemon's own.
    var monitorCgroup: ProcessCgroup?
}

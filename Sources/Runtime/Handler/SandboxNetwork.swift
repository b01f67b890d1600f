import Linux

/// Which network a pod sandbox asks for.
public enum NetworkMode: String, Codable, Sendable {
    /// One of its own, which CNI plugins attach.
    case pod
    /// The node's.
    case node
}

/// The network that a sandbox has.
public enum SandboxNetwork: Codable, Sendable, Equatable {
    case node
    case attached(AttachedNetwork)

    /// Nil for the node's.
    public var attached: AttachedNetwork? {
        switch self {
        case .node: nil
        case .attached(let network): network
        }
    }
}

/// The network of the node's pods.
public protocol NodeNetwork: Sendable {
    /// What keeps pods from getting a network now; nil when nothing does.
    func obstacle() async -> String?

    /// Begins to release what earlier daemons have left at the network's plugins. Pods are attached when that has ended.
    func collectGarbage()

    /// Takes in the ranges that the node's pods get addresses from.
    ///
    /// - Throws: `failedPrecondition` when the network cannot be set up for them; it stays as it was.
    func configure(ranges: [IPPrefix]) async throws

    /// Where the network namespace of a pod is bound. The same for one id for ever.
    func namespacePath(of podID: String) -> String

    /// Makes a network namespace with its loopback up; one that exists is kept.
    func createNamespace(path: String) async throws

    /// Attaches a pod; one that is attached already keeps its addresses.
    func attach(_ request: PodNetworkRequest) async throws -> AttachedNetwork

    /// Asks whether what a pod was given is still there.
    ///
    /// - Throws: what is missing. Some plug-ins fail for pods that work: a reason to look, not to end the pod.
    func check(_ request: PodNetworkRequest) async throws

    /// Moves a tap into the pod's namespace and joins it to an interface there. Doing it again changes nothing.
    ///
    /// - Parameter annotations: the pod's, which may ask for what the node's administrator allows.
    func join(tap: String, into namespacePath: String, with interface: AttachedInterface, annotations: [String: String]) async throws

    /// Namespaces and attachments of an earlier daemon's pods, as ``RuntimeHandler/leftovers(besides:)`` finds other resources.
    func leftovers(besides isKnown: @Sendable (_ pod: String) -> Bool) async throws -> [Leftover]

    /// Of the kinds `networkNamespace` and `networkAttachment`.
    var releasers: [ResourceReleaser] { get }
}

/// The network of one pod, as its handler sees it. The heart attaches it beside the handler's own work.
public protocol PodNetworkAttachment: Sendable {
    /// Where the pod's network namespace is bound; nil for a pod in the node's network.
    var namespacePath: String? { get }

    /// The network, as soon as it is attached.
    ///
    /// - Throws: why the pod has none.
    func attached() async throws -> SandboxNetwork

    /// Joins a tap of the node with an interface of the pod's network.
    ///
    /// - Throws: `.failedPrecondition` for a pod in the node's network.
    func join(tap: String, with interface: AttachedInterface) async throws
}

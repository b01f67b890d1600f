import CRI
import Errors

/// A pod or a container that a person can name.
struct Target: Equatable, Sendable {
    enum Kind: String, Sendable {
        case pod
        case container
    }

    let kind: Kind
    let id: String
    /// "web", and in full "default/web" for a pod, "web-pod/web" for a container.
    let names: [String]
    /// Of a container: its pod.
    let podID: String
    let attempt: UInt32
    /// Of a container: its pod's namespace, name and uid, and its own name, which all of its attempts have, also those of the pod's earlier
    /// sandboxes.
    let lineage: [String]
    /// A pod that is ready, a container that is created or runs.
    let isAlive: Bool

    init(_ pod: CRIPodSandbox) {
        kind = .pod
        id = pod.id
        names = [pod.metadata.name, "\(pod.metadata.namespace)/\(pod.metadata.name)"]
        podID = pod.id
        attempt = pod.metadata.attempt
        lineage = []
        isAlive = pod.state == .sandboxReady
    }

    init(_ container: CRIContainer, in pod: CRIPodSandbox?) {
        kind = .container
        id = container.id
        names = [container.metadata.name] + (pod.map { ["\($0.metadata.name)/\(container.metadata.name)"] } ?? [])
        podID = container.podSandboxID
        attempt = container.metadata.attempt
        let name = pod?.metadata
        lineage = [name?.namespace ?? "", name?.name ?? "", name?.uid ?? container.podSandboxID, container.metadata.name]
        isAlive = container.state == .containerCreated || container.state == .containerRunning
    }

    fileprivate var described: String { "\(kind.rawValue) \(Units.short(id)) (\(names.last ?? ""))" }
}

/// Everything on the node that can be named.
struct Targets: Sendable {
    let all: [Target]

    init(pods: [CRIPodSandbox], containers: [CRIContainer]) {
        let podByID = Dictionary(pods.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        all = pods.map { Target($0) } + containers.map { Target($0, in: podByID[$0.podSandboxID]) }
    }

    static func load(from daemon: Daemon) async throws -> Targets {
        async let pods = daemon.call(RuntimeRPC.listPodSandbox, CRIListPodSandboxRequest(), "listing pods")
        async let containers = daemon.call(RuntimeRPC.listContainers, CRIListContainersRequest(), "listing containers")
        return try await Targets(pods: pods.items, containers: containers.containers)
    }

    /// Finds what `text` means: an id, else a name, else the start of one id.
    ///
    /// Among things of one name the latest attempt counts, and a pod comes before a container of its own.
    /// - Parameter kind: what is asked for; nil for both.
    /// - Throws: `SwiftletError` `notFound`, or `invalidArgument` listing what `text` could mean.
    func resolve(_ text: String, as kind: Target.Kind? = nil) throws -> Target {
        let eligible = all.filter { kind == nil || $0.kind == kind }
        if let exact = eligible.first(where: { $0.id == text }) { return exact }
        var matches = Self.latest(of: eligible.filter { $0.names.contains(text) })
        if matches.isEmpty, !text.isEmpty { matches = eligible.filter { $0.id.hasPrefix(text) } }
        let pods = matches.filter { $0.kind == .pod }
        if pods.count == 1, matches.allSatisfy({ $0.podID == pods[0].id }) { return pods[0] }
        switch matches.count {
        case 1: return matches[0]
        case 0:
            let what = kind?.rawValue ?? "pod or container"
            throw SwiftletError(.notFound, "\(text): no \(what) has this id or name; see swiftlet ps -a")
        default:
            let list = matches.map(\.described).joined(separator: ", ")
            throw SwiftletError(.invalidArgument, "\(text): ambiguous, it could mean \(list)")
        }
    }

    /// The attempt before a container's, which has ended.
    ///
    /// - Throws: `SwiftletError` `notFound` where none is left.
    func previous(of container: Target) throws -> Target {
        let earlier = all.filter {
            $0.kind == .container && $0.lineage == container.lineage && $0.attempt < container.attempt && !$0.isAlive
        }
        guard let previous = earlier.max(by: { $0.attempt < $1.attempt }) else {
            throw SwiftletError(.notFound, "\(container.described) has no earlier attempt on this node; see swiftlet ps -a")
        }
        return previous
    }

    /// A restarted container or pod leaves earlier attempts behind; they are reached by id.
    private static func latest(of targets: [Target]) -> [Target] {
        targets.filter { target in
            !targets.contains { other in
                other.kind == target.kind && other.names.last == target.names.last && other.id != target.id
                    && (target.kind == .pod || other.podID == target.podID) && other.attempt > target.attempt
            }
        }
    }
}

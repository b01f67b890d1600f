import CRI

/// What `ps` shows. Its JSON form is part of the command's interface.
struct PodListing: Encodable, Equatable {
    struct Pod: Encodable, Equatable {
        var id: String
        var name: String
        var namespace: String
        var uid: String
        var attempt: UInt32
        var state: String
        var createdAt: String?
        var handler: String
        /// Empty for a pod that is not ready.
        var ips: [String]
        var labels: [String: String]
        var annotations: [String: String]
        var containers: [Container]
        fileprivate var created: Int64

        private enum CodingKeys: CodingKey {
            case id, name, namespace, uid, attempt, state, createdAt, handler, ips, labels, annotations, containers
        }
    }

    struct Container: Encodable, Equatable {
        var id: String
        var name: String
        var attempt: UInt32
        var image: String
        var imageID: String
        var state: String
        var createdAt: String?
        fileprivate var created: Int64

        func age(now: Int64) -> String { Units.age(of: created, now: now) }

        private enum CodingKeys: CodingKey {
            case id, name, attempt, image, imageID, state, createdAt
        }
    }

    var pods: [Pod]

    /// Asks for the addresses of ready pods as well; a pod that cannot be asked is shown without.
    static func load(from daemon: Daemon, all: Bool) async throws -> PodListing {
        async let sandboxes = daemon.call(
            RuntimeRPC.listPodSandbox, .with { if !all { $0.filter.state.state = .sandboxReady } }, "listing pods")
        async let containers = daemon.call(
            RuntimeRPC.listContainers, .with { if !all { $0.filter.state.state = .containerRunning } }, "listing containers")
        let items = try await sandboxes.items
        let addresses = await withTaskGroup(of: (String, [String]).self) { group in
            for pod in items where pod.state == .sandboxReady {
                group.addTask { (pod.id, await ips(of: pod.id, daemon)) }
            }
            return await group.reduce(into: [String: [String]]()) { $0[$1.0] = $1.1 }
        }
        return try await PodListing(items, containers.containers, addresses: addresses)
    }

    private static func ips(of pod: String, _ daemon: Daemon) async -> [String] {
        let request = CRIPodSandboxStatusRequest.with { $0.podSandboxID = pod }
        guard let reply = try? await daemon.call(RuntimeRPC.podSandboxStatus, request, "asking for the pod's address") else { return [] }
        let network = reply.status.network
        return ([network.ip] + network.additionalIps.map(\.ip)).filter { !$0.isEmpty }
    }

    /// Newest pods first; within a pod, the oldest container.
    init(_ sandboxes: [CRIPodSandbox], _ containers: [CRIContainer], addresses: [String: [String]]) {
        let byPod = Dictionary(grouping: containers, by: \.podSandboxID)
        pods = sandboxes.sorted { ($0.createdAt, $0.id) > ($1.createdAt, $1.id) }.map { pod in
            Pod(
                id: pod.id, name: pod.metadata.name, namespace: pod.metadata.namespace, uid: pod.metadata.uid,
                attempt: pod.metadata.attempt, state: pod.state == .sandboxReady ? "ready" : "notready",
                createdAt: Units.timestamp(pod.createdAt), handler: pod.runtimeHandler, ips: addresses[pod.id] ?? [],
                labels: pod.labels, annotations: pod.annotations,
                containers: (byPod[pod.id] ?? []).sorted { ($0.createdAt, $0.id) < ($1.createdAt, $1.id) }.map(Container.init),
                created: pod.createdAt)
        }
    }

    func table(now: Int64) -> Table {
        var table = Table(["ID", "NAME", "STATE", "CREATED", "IP", "HANDLER", "IMAGE"])
        for pod in pods {
            table.rows.append([
                Units.short(pod.id), "\(pod.namespace)/\(pod.name)", pod.state, Units.age(of: pod.created, now: now),
                pod.ips.joined(separator: ","), pod.handler.isEmpty ? "(default)" : pod.handler, "",
            ])
            for (index, container) in pod.containers.enumerated() {
                let branch = index + 1 == pod.containers.count ? "└ " : "├ "
                table.rows.append([
                    branch + Units.short(container.id), container.name, container.state, Units.age(of: container.created, now: now),
                    "", "", container.image,
                ])
            }
        }
        return table
    }
}

extension PodListing.Container {
    fileprivate init(_ container: CRIContainer) {
        let asked = container.image.userSpecifiedImage.isEmpty ? container.image.image : container.image.userSpecifiedImage
        self.init(
            id: container.id, name: container.metadata.name, attempt: container.metadata.attempt,
            image: asked.isEmpty ? Units.short(container.imageRef) : asked, imageID: container.imageRef, state: container.state.word,
            createdAt: Units.timestamp(container.createdAt), created: container.createdAt)
    }
}

extension CRIContainerState {
    var word: String {
        switch self {
        case .containerCreated: "created"
        case .containerRunning: "running"
        case .containerExited: "exited"
        case .containerUnknown, .UNRECOGNIZED: "unknown"
        }
    }
}

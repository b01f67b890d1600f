import Concurrency
import Errors
import Glibc
import Linux
import Logging
import Runtime
import Synchronization

/// Whether pods can be attached to a network now.
public enum NetworkStatus: Sendable, Equatable {
    /// The name of the network in use.
    case ready(network: String)
    /// What is missing and what to do about it.
    case notReady(reason: String)
}

/// The networks of the node's pods: namespaces, CNI attachments, taps.
///
/// Calls for different pods may run at the same time; calls for one pod must come one after another. Every step can be
/// repeated, and each step that takes something has one that gives it back and succeeds when there is nothing.
public final class PodNetworks: Sendable {
    private let configuration: CNIConfiguration
    private let records: AttachmentRecords
    private let readiness: NetworkReadiness
    private let logger: Logger
    /// Attachments wait for it: one that GC is not told of would be released.
    private let garbage = Mutex<Task<Void, Never>?>(nil)

    public init(configuration: CNIConfiguration = CNIConfiguration(), logger: Logger) {
        self.configuration = configuration
        records = AttachmentRecords(directory: configuration.cacheDirectory)
        readiness = NetworkReadiness(grace: configuration.statusGrace, logger: logger)
        self.logger = logger
    }

    /// Looks at the configuration and for its plugins, and asks them where they know STATUS.
    public func status() async -> NetworkStatus {
        do {
            let network = try await usable()
            var failure: SwiftletError?
            do {
                try await CNIChain(network: network, configuration: configuration).status()
            } catch {
                failure = SwiftletError.wrap(error, "CNI network \(network.name)")
            }
            if let failure = readiness.take(failure, of: network) { return .notReady(reason: "\(failure)") }
            return .ready(network: network.name)
        } catch {
            return .notReady(reason: "\(error)")
        }
    }

    /// The network in use, whose plugins are all there.
    private func usable() async throws -> CNINetworkList {
        let configuration = configuration
        return try await OwnThread.run {
            let network = try CNINetworkList.load(from: configuration.configDirectory)
            for plugin in network.plugins { _ = try CNIPlugin(plugin["type"]?.string ?? "", configuration: configuration) }
            return network
        }
    }

    /// Begins to have the plugins release what is of no pod that is recorded. Pods are attached when that has ended.
    public func collectGarbage() {
        guard configuration.collectsGarbage else { return }
        garbage.withLock { garbage in
            garbage = Task {
                do {
                    // What is not configured has nothing to release.
                    guard let network = try? await usable() else { return }
                    let valid = try await records.all().filter { $0.network.name == network.name }.map(\.request)
                    try await CNIChain(network: network, configuration: configuration).collectGarbage(besides: valid)
                } catch {
                    logger.warning("network plugins did not clean up", metadata: ["error": "\(error)"])
                }
            }
        }
    }

    /// Puts the template's network, if there is a template, into the configuration directory: from the next pod on it counts, unless
    /// another file comes before it.
    ///
    /// - Parameter ranges: what pods get addresses from.
    /// - Throws: `failedPrecondition` for a template that is missing or broken; the network stays as it was.
    public func configure(ranges: [IPPrefix]) async throws {
        guard let template = configuration.template else { return }
        let path = "\(configuration.configDirectory)/\(NetworkTemplate.fileName)"
        try await OwnThread.run {
            let network = try NetworkTemplate(path: template).rendered(ranges)
            try AtomicFile.write(network, to: path, mode: 0o644, durable: true, step: "writing CNI configuration \(path)")
        }
        logger.info("network configured", metadata: ["file": "\(path)", "ranges": "\(ranges)"])
    }

    // MARK: Namespaces

    /// Where the network namespace of a pod is bound.
    public func namespacePath(of podID: String) -> String {
        // Enough of the id to be unique on a node.
        "\(configuration.namespaceDirectory)/\(podID.prefix(13)).netns"
    }

    /// Makes the pod's network namespace with its loopback up; one that exists is kept.
    public func createNamespace(path: String) async throws {
        try await OwnThread.run {
            try NetworkNamespace.create(at: path)
            try NetworkNamespace.runAndWait(in: path) { try Self.bringLoopbackUp() }
        }
    }

    /// Unbinds the pod's network namespace; none there is success.
    public func deleteNamespace(path: String) async throws {
        try await OwnThread.run { try NetworkNamespace.delete(at: path) }
    }

    // MARK: CNI

    /// Attaches the pod: ADD through the configured chain, then what the namespace holds is read back.
    ///
    /// A pod that is attached already keeps its addresses; one whose attachment was cut short, or whose interface has lost
    /// an address, is detached and attached anew. A failed ADD is followed by DEL.
    ///
    /// - Throws: `failedPrecondition` for a missing or broken configuration, `notFound` without the namespace, otherwise
    ///   the plugin's error (`CNIPluginError` as cause).
    public func attach(_ request: PodNetworkRequest) async throws -> AttachedNetwork {
        try request.validate()
        await garbage.withLock { $0 }?.value
        guard NetworkNamespace.isBound(at: request.namespacePath) else {
            throw SwiftletError(.notFound, "pod \(request.podID): no network namespace is bound at \(request.namespacePath)")
        }
        try await NetworkNamespace.run(in: request.namespacePath) { try Self.bringLoopbackUp() }
        if let record = await records.read(request) {
            if record.complete, record.request == request, let network = try? await read(record), network.holds(record.addresses) {
                return network
            }
            logger.warning("attaching a pod anew: its recorded network is not whole", metadata: ["pod": "\(request.podID)"])
            try await detach(record.request)
        }

        let network = try await configured()
        var record = AttachmentRecord(request: request, network: network, result: nil, complete: false)
        do {
            let chain = CNIChain(network: network, configuration: configuration)
            try await records.write(record)
            _ = try await chain.add(request) { result in
                record.result = result
                try await records.write(record)
            }
            record.complete = true
            try await records.write(record)
            return try await read(record)
        } catch {
            do {
                try await detach(request)
            } catch let cleanup {
                logger.warning(
                    "network of a pod left behind after a failed ADD; it will be removed with the pod",
                    metadata: ["pod": "\(request.podID)", "error": "\(cleanup)"])
            }
            throw SwiftletError.wrap(error, "attaching to CNI network \(network.name)")
        }
    }

    /// Detaches the pod: DEL through the chain in reverse, with the configuration and the result that ADD worked with.
    ///
    /// Detaching what is not attached, or whose namespace is gone, succeeds. After an error the record stays, so that the
    /// next call tries again.
    public func detach(_ request: PodNetworkRequest) async throws {
        try request.validate()
        let record = await records.read(request)
        let configured = record == nil ? await configuredNetwork() : nil
        guard let network = record?.network ?? configured else { return }
        do {
            let chain = CNIChain(network: network, configuration: configuration)
            if let record {
                try await StandInInterface(record, directory: configuration.cacheDirectory).use { namespacePath in
                    try await chain.delete(record.request, namespacePath: namespacePath, previous: record.result)
                }
            } else {
                let namespacePath = NetworkNamespace.isBound(at: request.namespacePath) ? request.namespacePath : ""
                try await chain.delete(request, namespacePath: namespacePath, previous: nil)
            }
        } catch {
            throw SwiftletError.wrap(error, "detaching from CNI network \(network.name)")
        }
        try await records.remove(request)
    }

    /// CHECK through the chain of an attached pod. Some plugins fail it for pods that work (portmap up to 1.1.1 with two
    /// address families): a reason to look, not to detach.
    ///
    /// - Throws: the plugin's error; `notFound` for a pod that is not attached.
    public func check(_ request: PodNetworkRequest) async throws {
        try request.validate()
        guard let record = await records.read(request), record.complete else {
            throw SwiftletError(.notFound, "pod \(request.podID) is not attached to a network")
        }
        try await CNIChain(network: record.network, configuration: configuration).check(record.request, previous: record.result)
    }

    /// The requests of all pods that are attached, wholly or in part.
    func attached() async throws -> [PodNetworkRequest] { try await records.all().map(\.request) }

    /// The network in use now, for a pod without a record; nil when there is none, since then nothing can be attached.
    private func configuredNetwork() async -> CNINetworkList? {
        try? await usable()
    }

    private func configured() async throws -> CNINetworkList {
        let directory = configuration.configDirectory
        return try await OwnThread.run { try CNINetworkList.load(from: directory) }
    }

    private func read(_ record: AttachmentRecord) async throws -> AttachedNetwork {
        let request = record.request
        let interfaces = record.result?["interfaces"]?.array ?? []
        let reported = Set(interfaces.filter { $0["sandbox"]?.string?.isEmpty == false }.compactMap { $0["name"]?.string })
        let dns = NetworkDNS(record.result?["dns"])
        let network = try await NetworkNamespace.run(in: request.namespacePath) {
            try AttachedNetwork.read(interfaceName: request.interfaceName, reported: reported, dns: dns)
        }
        guard let network, !network.mac.isEmpty else {
            throw SwiftletError(
                .internal, "pod \(request.podID): the CNI plugins succeeded but left no Ethernet interface \(request.interfaceName)")
        }
        return network
    }

    private static func bringLoopbackUp() throws {
        let netlink = try RouteNetlink()
        guard let loopback = try netlink.links().first(where: \.isLoopback), !loopback.isUp else { return }
        try netlink.change(link: loopback.index, LinkChange(up: true))
    }

    // MARK: Taps

    /// "true": the pod sends from any address, as routers and virtual addresses need, where the administrator allows it.
    public static let spoofingAnnotation = "swiftlet/allow-spoofing"

    /// Makes a persistent tap in the network namespace that machines start in, where QEMU can be given it at boot.
    public func createTap(name: String, uid: uid_t, gid: gid_t? = nil) async throws {
        try await inMachineNamespace { try Tap.create(name, uid: uid, gid: gid) }
    }

    /// Takes over the tap of a machine that an earlier daemon has started and that waits for its pod: where that daemon had its machines start
    /// in a namespace of its own, the machine's process is still in it, and the tap.
    ///
    /// - Throws: `notFound` when it is not there.
    public func takeOverTap(name: String, of machine: ProcessIdentity) async throws {
        let (theirs, ours) = (
            "/proc/\(machine.pid)/ns/net", configuration.machineNamespace ?? configuration.hostNamespace ?? "/proc/self/ns/net"
        )
        let isThere = try await inMachineNamespace { try RouteNetlink().link(named: name)?.kind == "tun" }
        guard !isThere else { return }
        try await NetworkNamespace.run(in: theirs) {
            let netlink = try RouteNetlink()
            guard machine.isAlive, let link = try netlink.link(named: name), link.kind == "tun" else {
                throw SwiftletError(.notFound, "tap \(name) is not where process \(machine.pid) is")
            }
            let namespace = try NetworkNamespace.open(ours)
            defer { close(namespace) }
            try netlink.change(link: link.index, LinkChange(namespace: namespace))
        }
    }

    /// Deletes the tap, wherever it is: in the machines' namespace or already in the pod's. None there is success.
    public func deleteTap(name: String, namespacePath: String) async throws {
        if try await inMachineNamespace({ try Tap.delete(name) }) { return }
        guard NetworkNamespace.isBound(at: namespacePath) else { return }
        try await NetworkNamespace.run(in: namespacePath) { _ = try Tap.delete(name) }
    }

    /// Moves the tap into the pod's namespace and joins it to an interface there, so that the guest behind the tap
    /// takes the interface's place. Doing it again changes nothing.
    ///
    /// The interface keeps its addresses, so that CNI's CHECK finds them, but everything it receives goes to the guest:
    /// the namespace's own stack never answers for them. Of what the guest sends, frames from its own addresses leave.
    public func join(
        tap: String, into namespacePath: String, with interface: AttachedInterface, annotations: [String: String] = [:]
    ) async throws {
        let isFree = configuration.allowsSpoofing && annotations[Self.spoofingAnnotation] == "true"
        try await inMachineNamespace {
            let netlink = try RouteNetlink()
            guard let link = try netlink.link(named: tap), link.kind == "tun" else { return }
            let namespace = try NetworkNamespace.open(namespacePath)
            defer { close(namespace) }
            try netlink.change(link: link.index, LinkChange(namespace: namespace))
        }
        try await NetworkNamespace.run(in: namespacePath) {
            let netlink = try RouteNetlink()
            func find(_ name: String, _ what: String) throws -> NetworkLink {
                if let link = try netlink.link(named: name) { return link }
                throw SwiftletError(.notFound, "\(what) \(name) is not in network namespace \(namespacePath)")
            }
            let device = try find(tap, "tap")
            let target = try find(interface.name, "interface")
            // Else the namespace's stack would send router solicitations of its own to the guest.
            try netlink.disableIPv6Autoconfiguration(link: device.index)
            try netlink.change(link: device.index, LinkChange(mtu: target.mtu))
            if isFree {
                try netlink.redirect(from: device.index, to: target.index)
            } else {
                try netlink.filter(from: device.index, SourceGuard.rules(for: interface, to: target.index))
            }
            try netlink.redirect(from: target.index, to: device.index)
            for index in [target.index, device.index] { try netlink.change(link: index, LinkChange(up: true)) }
        }
    }

    private func inMachineNamespace<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
        if let path = configuration.machineNamespace ?? configuration.hostNamespace {
            return try await NetworkNamespace.run(in: path, work)
        }
        return try await OwnThread.run(work)
    }
}

extension NetworkDNS {
    /// The "dns" member of a CNI result.
    fileprivate init(_ json: JSONValue?) {
        self.init(
            nameservers: json?["nameservers"]?.strings ?? [], domain: json?["domain"]?.string, search: json?["search"]?.strings ?? [],
            options: json?["options"]?.strings ?? [])
    }
}

import CLibvirt
import Concurrency
import Errors
import FoundationEssentials
import Glibc
import Linux
import Logging

/// Machines through libvirt's QEMU driver, in the system's libvirtd or inside this process.
public final class LibvirtHypervisor: Hypervisor {
    let configuration: LibvirtConfiguration
    let blueprint: DomainBlueprint
    let emulators: EmulatorProcess
    let logger: Logger
    private let calls: BlockingPool
    private let connection: LibvirtConnection
    private let hub: DomainEventHub
    /// One change at a time for each machine: two disks plugged at once would choose the same free unit.
    private let changes = SerialQueues<UUID>()
    /// The URI in use.
    public let uri: String

    /// Connects and finds out what domains on this node need.
    ///
    /// - Throws: `unavailable` with libvirt's reason when nothing answers.
    public static func open(_ configuration: LibvirtConfiguration, logger: Logger) async throws -> LibvirtHypervisor {
        var configuration = configuration
        let calls = BlockingPool("libvirt", threads: 6)
        let hub = DomainEventHub()
        func connect(_ uri: String) async throws -> LibvirtHypervisor {
            let connection = LibvirtConnection(uri: uri, calls: calls, timeout: configuration.openTimeout, hub: hub, logger: logger)
            let handle = try await connection.handle()
            let host = try await calls.run("ask libvirt about the node", timeout: configuration.openTimeout) { _ in
                try handle.with { HostProfile(emulator: nil, dacLabel: try dacLabel($0)) }
            }
            let profile = HostProfile(emulator: configuration.emulator, dacLabel: host.dacLabel)
            logger.info("connected to libvirt", metadata: ["uri": "\(uri)", "qemu-user": "\(profile.dacLabel ?? "default")"])
            return LibvirtHypervisor(configuration, uri: uri, calls: calls, connection: connection, hub: hub, host: profile, logger: logger)
        }
        func embedded(_ path: String) async throws -> LibvirtHypervisor {
            let root = EmbeddedRoot(path: path)
            try root.prepare()
            configuration.pidDirectories = [root.pidDirectory]
            return try await connect(root.uri)
        }
        switch configuration.connection {
        case .system: return try await connect("qemu:///system")
        case .custom(let uri): return try await connect(uri)
        case .embed(let root): return try await embedded(root)
        case .auto:
            guard access(configuration.systemSocket, W_OK) == 0 else { return try await embedded(configuration.embeddedRoot) }
            do {
                return try await connect("qemu:///system")
            } catch {
                logger.warning(
                    "libvirtd does not answer, using the embedded driver",
                    metadata: ["socket": "\(configuration.systemSocket)", "error": "\(error)"])
                return try await embedded(configuration.embeddedRoot)
            }
        }
    }

    private init(
        _ configuration: LibvirtConfiguration, uri: String, calls: BlockingPool, connection: LibvirtConnection, hub: DomainEventHub,
        host: HostProfile, logger: Logger
    ) {
        self.configuration = configuration
        self.uri = uri
        self.calls = calls
        self.connection = connection
        self.hub = hub
        self.logger = logger
        blueprint = DomainBlueprint(host: host)
        emulators = EmulatorProcess(pidDirectories: configuration.pidDirectories)
    }

    public func events() -> AsyncStream<DomainEvent> { hub.events() }

    func report(_ event: DomainEvent) { hub.send(event) }

    public func close() async {
        await connection.close()
        hub.close()
    }

    public func domains() async throws -> [DomainSummary] {
        let emulators = emulators
        let haveProcesses = uri.hasPrefix("qemu")
        return try await perform("list domains", timeout: configuration.callTimeout) { connection, _ in
            var list: UnsafeMutablePointer<virDomainPtr?>?
            let count = virConnectListAllDomains(connection, &list, VIR_CONNECT_LIST_DOMAINS_ACTIVE.rawValue)
            guard count >= 0, let list else { throw SwiftletError.libvirt("list domains") }
            defer { free(list) }
            return (0..<Int(count)).compactMap { index in
                guard let pointer = list[index] else { return nil }
                defer { virDomainFree(pointer) }
                let domain = DomainPointer(pointer)
                guard let uuid = domain.uuid else { return nil }
                let name = domain.name
                let process = haveProcesses ? emulators.find(uuid: uuid, name: name) : nil
                // For a moment after its restart libvirtd lists machines that ended without it.
                guard process != nil || !haveProcesses else { return nil }
                return DomainSummary(uuid: uuid, name: name, state: domain.state(), process: process)
            }
        }
    }

    /// Runs one libvirt call for the machine `uuid`, after those for the same machine that began earlier.
    func inTurn<Value: Sendable>(_ uuid: UUID, _ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
        try await changes.run(uuid, body)
    }

    /// Runs one libvirt call on a thread of its own, on the connection of the moment.
    func perform<Value: Sendable>(
        _ step: String, timeout: Duration, _ body: @escaping @Sendable (virConnectPtr, BlockingCall) throws -> Value
    ) async throws -> Value {
        let handle: ConnectionHandle
        do {
            handle = try await connection.handle()
        } catch {
            throw SwiftletError.wrap(error, step, code: .unavailable)
        }
        do {
            return try await calls.run(step, timeout: timeout) { call in
                try handle.with { try body($0, call) }
            }
        } catch let error as SwiftletError {
            if error.libvirtError?.isConnectionLoss == true { await connection.lost(handle) }
            throw error
        }
    }

    /// The label that libvirt's DAC driver gives QEMU, from the host's capabilities.
    private static func dacLabel(_ connection: virConnectPtr) throws -> String? {
        guard let text = virConnectGetCapabilities(connection) else { throw SwiftletError.libvirt("ask for the host's capabilities") }
        defer { free(text) }
        let capabilities = String(cString: text)
        guard let model = capabilities.firstRange(of: "<model>dac</model>"),
            let label = capabilities[model.upperBound...].firstRange(of: "<baselabel type='kvm'>"),
            let end = capabilities[label.upperBound...].firstRange(of: "</baselabel>")
        else { return nil }
        return String(capabilities[label.upperBound..<end.lowerBound])
    }
}

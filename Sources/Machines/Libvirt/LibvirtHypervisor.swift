import CLibvirt
import Concurrency
import Errors
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
    let hub: MachineEventHub
    /// One change at a time for each machine: two disks plugged at once would choose the same free unit.
    private let changes = SerialQueues<MachineID>()
    let attachments = AttachmentRegistry()
    /// Nil where libvirt's logs are elsewhere.
    let logs: DomainLogs?
    /// The URI in use.
    public let uri: String

    /// Connects and finds out what domains on this node need.
    ///
    /// - Throws: `unavailable` with libvirt's reason when nothing answers.
    public static func open(_ configuration: LibvirtConfiguration, logger: Logger) async throws -> LibvirtHypervisor {
        var configuration = configuration
        let calls = BlockingPool("libvirt", threads: 6)
        let hub = MachineEventHub(logDirectory: configuration.logDirectory)
        func connect(_ uri: String, _ embedded: EmulatorCapabilities? = nil) async throws -> LibvirtHypervisor {
            let connection = LibvirtConnection(uri: uri, calls: calls, timeout: configuration.openTimeout, hub: hub, logger: logger)
            let handle = try await connection.handle()
            let emulator = configuration.emulator
            let profile = try await calls.run("ask libvirt about the node", timeout: configuration.openTimeout) { _ in
                let node = try handle.with { try Self.capabilities($0) }
                var profile = HostProfile(emulator: emulator, dacLabel: dacLabel(node))
                guard let embedded, emulator == nil, let found = Self.emulator(node) else { return profile }
                do {
                    profile.emulators = try embedded.prepare(found)
                } catch {
                    logger.warning("each machine takes more memory of swiftletd's", metadata: ["error": "\(error)"])
                }
                return profile
            }
            logger.info("connected to libvirt", metadata: ["uri": "\(uri)", "qemu-user": "\(profile.dacLabel ?? "default")"])
            return LibvirtHypervisor(configuration, uri: uri, calls: calls, connection: connection, hub: hub, host: profile, logger: logger)
        }
        switch configuration.connection {
        case .system:
            if configuration.users != nil { MachineDirectory.open(configuration.machineDirectory, logger) }
            return try await connect("qemu:///system")
        case .custom(let uri):
            if configuration.users != nil, uri.hasPrefix("qemu") { MachineDirectory.open(configuration.machineDirectory, logger) }
            return try await connect(uri)
        case .embed(let path):
            let root = EmbeddedRoot(path: path, runDirectory: configuration.embeddedRunDirectory)
            try root.prepare()
            configuration.pidDirectories = [root.pidDirectory]
            await OwnThread.answer { DomainLog.prune("\(path)/log/qemu", pidDirectory: root.pidDirectory) }
            return try await connect(root.uri, root.capabilities)
        }
    }

    private init(
        _ configuration: LibvirtConfiguration, uri: String, calls: BlockingPool, connection: LibvirtConnection, hub: MachineEventHub,
        host: HostProfile, logger: Logger
    ) {
        self.configuration = configuration
        self.uri = uri
        self.calls = calls
        self.connection = connection
        self.hub = hub
        self.logger = logger
        var isEmbedded = false
        if case .embed = configuration.connection { isEmbedded = true }
        logs = configuration.logDirectory.map { DomainLogs($0, prefix: isEmbedded ? "" : DomainLogs.prefix, logger: logger) }
        blueprint = DomainBlueprint(host: host)
        emulators = EmulatorProcess(pidDirectories: configuration.pidDirectories, users: configuration.users)
    }

    /// Whether each machine has a process: libvirt's test driver has none.
    var haveProcesses: Bool { uri.hasPrefix("qemu") }

    public func events() -> AsyncStream<MachineEvent> { hub.events() }

    func report(_ event: MachineEvent) { hub.send(event) }

    public func close() async {
        await connection.close()
        hub.close()
    }

    /// Runs one libvirt call for this machine, after those for the same machine that began earlier.
    func inTurn<Value: Sendable>(_ id: MachineID, _ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
        try await changes.run(id, body)
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

    /// Runs a call of libvirt that starts QEMU or gives it a tap, in the network namespace that QEMU is in.
    func inMachineNamespace<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) throws -> Value {
        guard case .embed = configuration.connection, let namespace = configuration.networkNamespace else { return try body() }
        // The driver forks on the thread that calls it, and QEMU gets that thread's namespaces.
        return try NetworkNamespace.runAndWait(in: namespace, body)
    }

    /// The label that libvirt's DAC driver gives QEMU, from the host's capabilities.
    static func dacLabel(_ capabilities: XMLTag) -> String? {
        let models = capabilities["host"]?.all("secmodel") ?? []
        let labels = models.first { $0["model"]?.text == "dac" }?.all("baselabel") ?? []
        return labels.first { $0.attribute("type") == "kvm" }?.text
    }

    /// QEMU's program for guests of the node's own architecture.
    static func emulator(_ capabilities: XMLTag) -> String? {
        let architectures = capabilities.all("guest").compactMap { $0["arch"] }
        return architectures.first { $0.attribute("name") == Platform.current.machine }?["emulator"]?.text
    }

    private static func capabilities(_ connection: virConnectPtr) throws -> XMLTag {
        guard let text = virConnectGetCapabilities(connection) else { throw SwiftletError.libvirt("ask for the host's capabilities") }
        defer { free(text) }
        return try XMLTag(parsing: String(cString: text))
    }
}

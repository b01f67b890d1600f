import Errors
import Foundation
import Linux
import Logging
import MachineFakes
import Machines
import PodNetwork
import State
import Support
import Synchronization
import Testing

@testable import NativeVMRuntime
@testable import PodMachine
@testable import Runtime

/// A node with the real handler `vm` on a hypervisor without machines. Its daemon may end at any moment.
final class VMGround: Sendable {
    /// A pod's network without plug-ins.
    private struct Attachment: PodNetworkAttachment {
        let namespacePath: String?
        let isBroken: @Sendable () -> Bool

        func attached() async throws -> SandboxNetwork { .attached(.sample) }

        func join(tap: String, with interface: AttachedInterface) async throws {
            if isBroken() { throw SwiftletError(.internal, "no join") }
        }
    }

    static let pod = String(repeating: "0123456789abcdef", count: 4)
    static let container = String(repeating: "fedcba9876543210", count: 4)

    var directory: String { held.path }
    private let held: HeldDirectory
    let hypervisor = RecordingHypervisor()
    let machines: MachineResources
    let configuration: NativeVMConfiguration
    let failsToJoin = Mutex(false)

    init(_ button: PowerButton? = nil) throws {
        // Machines' users pass through.
        held = try HeldDirectory("swvm-", mode: 0o711)
        let directory = held.path
        try NetworkNamespace.create(at: directory + "/netns")
        try Data(count: 1 << 20).write(to: URL(filePath: directory + "/disk"))
        // Goes to the background when it is ready, as swtpm does.
        let swtpm = "#!/bin/sh\ncase \"$1\" in socket) setsid \"$0\" run \"$@\" </dev/null >/dev/null 2>&1 & ;; *) sleep 1000 ;; esac\n"
        try Data(swtpm.utf8).write(to: URL(filePath: directory + "/swtpm"))
        chmod(directory + "/swtpm", 0o755)
        var configuration = NativeVMConfiguration(
            runDirectory: directory + "/r", stateDirectory: directory + "/s", accelerator: .tcg,
            vsock: VsockDevices(.kernel, backend: "", users: try .test()), group: 2_001_200_099)
        if let button { configuration.powerButton = button }
        self.configuration = configuration
        let number = Self.grounds.wrappingAdd(1, ordering: .relaxed).newValue
        let users = try UserRange(first: 2_001_300_000 + number * 64, count: 64)
        let networks = PodNetworks(
            configuration: CNIConfiguration(cacheDirectory: directory + "/cni", hostNamespace: directory + "/netns"), logger: Self.logger)
        machines = MachineResources(
            hypervisor: hypervisor, networks: networks, users: users, swtpm: directory + "/swtpm", logger: Self.logger)
    }

    /// Of other tests' machines at the same time: a release ends all processes of its user.
    private static let grounds = Atomic(0)

    private static let logger: Logger = {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return logger
    }()

    static func with(button: PowerButton? = nil, _ body: (VMGround) async throws -> Void) async throws {
        let ground = try VMGround(button)
        defer { ground.remove() }
        try await body(ground)
        await ground.hypervisor.close()
    }

    private func remove() {
        try? NetworkNamespace.delete(at: directory + "/netns")
        held.remove()
    }

    func names(_ container: String = VMGround.container) -> VMNames {
        VMNames(pod: Self.pod, container: container, configuration: configuration)
    }

    var machine: MachineID { names().machine }

    func saved() throws -> VMRecord { try #require(VMRecord.all(in: VMNames.podDirectory(Self.pod, configuration)).first) }

    /// The daemon of the moment.
    struct Daemon {
        let ground: VMGround
        let handler: NativeVMHandler
        let database: StateDatabase
        let pod: Ledger

        func ledger(_ container: String = VMGround.container) async throws -> Ledger {
            Ledger(owner: container, database: database, entries: try await Ledger.stored(in: database)[container] ?? [])
        }

        private var context: SandboxContext {
            var spec = SandboxSpec(metadata: .init(name: "vm", uid: "uid", namespace: "test", attempt: 0))
            spec.runtimeHandler = "vm"
            return SandboxContext(
                id: VMGround.pod, spec: spec, ledger: pod,
                network: Attachment(namespacePath: ground.directory + "/netns") { ground.failsToJoin.withLock { $0 } })
        }

        func start() async throws -> any Sandbox { try await handler.start(context) }

        /// What an earlier daemon has left.
        func reattach() async throws -> VMSandbox { try #require(try await handler.reattach(context) as? VMSandbox) }

        /// A container that was started, with what it holds.
        func run(_ annotations: [String: String] = [:]) async throws -> (any Sandbox, Ledger) {
            let (sandbox, ledger) = (try await start(), try await ledger())
            _ = try await sandbox.createContainer(VMGround.container, ground.plan(annotations), ledger: ledger)
            try await sandbox.startContainer(VMGround.container, ledger: ledger)
            return (sandbox, ledger)
        }
    }

    /// - Parameter state: of the database: another one is a state that was lost.
    func daemon(state: String = "state") async throws -> Daemon {
        let database = try StateDatabase(path: "\(directory)/\(state).sqlite")
        let handler = try NativeVMHandler(configuration: configuration, machines: machines, logger: Self.logger)
        let pod = Ledger(owner: Self.pod, database: database, entries: try await Ledger.stored(in: database)[Self.pod] ?? [])
        return Daemon(ground: self, handler: handler, database: database, pod: pod)
    }

    func plan(_ annotations: [String: String] = [:], mounts: [ContainerMount] = []) throws -> ContainerPlan {
        var spec = ContainerSpec(metadata: .init(name: "vm", attempt: 0), image: "i")
        spec.mounts = mounts
        // Nobody looks for an agent: tests open no vsock connections.
        spec.annotations = annotations.merging(["swiftlet/seed": "none", "swiftlet/agent": "none"]) { given, _ in given }
        let image = DiskImage(path: directory + "/disk", format: .raw, virtualSize: 1 << 20, digest: "sha256:0")
        return ContainerPlan(
            spec: spec, root: .disk(image), arguments: [], environment: [], workingDirectory: "/", user: try UserReference(parsing: "", ""),
            stopSignal: 15)
    }

    /// What is left of pods on the node.
    func leaks() throws -> [String] {
        var left = hypervisor.running.map { "machine \($0)" }
        for folder in ["/r", "/s"] { left += try FileManager.default.contentsOfDirectory(atPath: directory + folder) }
        let links = try NetworkNamespace.runAndWait(in: directory + "/netns") { try RouteNetlink().links() }
        left += links.filter { $0.kind == "tun" }.map(\.name)
        let processes = ProcessTable.all(of: [], and: machines.users.range) { $0.contains { $0.contains(directory) } }
        return left + processes.map { "process \($0.pid)" }
    }
}

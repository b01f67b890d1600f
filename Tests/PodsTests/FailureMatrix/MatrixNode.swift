import AgentClient
import Errors
import Foundation
import Images
import Linux
import Logging
import Logs
import MachineFakes
import PodMachine
import PodNetwork
import State
import Support
import Synchronization

@testable import MicroVMRuntime
@testable import Pods
@testable import Runtime

/// What all cases have in common: made once, since it takes long.
final class MatrixGround: Sendable {
    var directory: String { held.path }
    private let held: HeldDirectory
    /// Where taps are made.
    let namespace: String
    /// Stands for swiftlet-vsockd.
    let backend: String
    let scratchTemplate: String
    static let scratchSize: UInt64 = 2 << 20

    init() async throws {
        held = try HeldDirectory("swmatrix-")
        let directory = held.path
        namespace = directory + "/host.netns"
        try NetworkNamespace.create(at: namespace)
        backend = directory + "/vsockd"
        let fifo = directory + "/never"
        guard mkfifo(fifo, 0o600) == 0 else { throw SwiftletError.system("mkfifo") }
        // Says that it listens and waits for its end.
        try Data("#!/bin/sh\nprintf x >&3\nexec 3>&-\nread -r line < \(fifo)\n".utf8).write(to: URL(filePath: backend))
        guard chmod(backend, 0o700) == 0 else { throw SwiftletError.system("chmod") }
        for file in ["vmlinuz", "initramfs"] { try Data().write(to: URL(filePath: "\(directory)/\(file)")) }
        let scratch = ScratchDisk(directory: directory, size: Self.scratchSize)
        try await scratch.prepareTemplate()
        scratchTemplate = "\(directory)/template-\(Self.scratchSize).ext4"
    }

    func remove() {
        try? NetworkNamespace.delete(at: namespace)
        held.remove()
    }
}

/// A node whose daemon may be killed: what outlives a daemon, and the daemon of the moment with the real `microvm` handler.
final class MatrixNode: Sendable {
    struct Daemon: Sendable {
        let registry: PodRegistry
        let images: ImageStore
        let database: StateDatabase
        let handler: MicroVMHandler

        func close() async {
            await registry.closePools()
            registry.close()
            await images.shutdown()
        }
    }

    let directory: String
    let network: FakeNetwork
    let hypervisor: RecordingHypervisor
    let guests = InProcessGuests()
    private let ground: MatrixGround

    init(_ ground: MatrixGround, number: Int) throws {
        self.ground = ground
        directory = "\(ground.directory)/\(number)"
        try FileManager.default.createDirectory(atPath: directory + "/s/scratch", withIntermediateDirectories: true)
        guard link(ground.scratchTemplate, "\(directory)/s/scratch/template-\(MatrixGround.scratchSize).ext4") == 0 else {
            throw SwiftletError.system("link the scratch disk's template")
        }
        network = FakeNetwork(directory: directory + "/r")
        let guests = guests
        hypervisor = RecordingHypervisor(onStart: { try guests.start($0) }, onEnd: { guests.end($0) })
    }

    /// Starts a daemon on what is there.
    ///
    /// - Parameters:
    ///   - fault: one that hangs is to be found out soon; all others must not be taken for one on a busy machine.
    ///   - pool: opened when the daemon recovers.
    func daemon(_ fault: Fault = .error, pool: PoolConfiguration = PoolConfiguration()) async throws -> Daemon {
        var configuration = MicroVMConfiguration(
            kernel: ground.directory + "/vmlinuz", initramfs: ground.directory + "/initramfs", runDirectory: directory + "/r",
            stateDirectory: directory + "/s", vsockBackend: ground.backend, accelerator: .tcg, vsock: .vhostUser, users: try .test(),
            sharedUser: .test)
        configuration.scratchSize = MatrixGround.scratchSize
        configuration.pool = pool
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        let taps = PodNetworks(
            configuration: CNIConfiguration(cacheDirectory: directory + "/cni", hostNamespace: ground.namespace), logger: logger)
        let resources = MicroVMResources(
            configuration: configuration,
            machines: MachineResources(hypervisor: hypervisor, networks: taps, users: configuration.users, logger: logger))
        let handler = try await MicroVMHandler(resources: resources, logger: logger)
        let database = try StateDatabase(path: directory + "/state.sqlite")
        let images = try await ImageStore(
            configuration: ImageStoreConfiguration(root: directory + "/images"), database: database, logger: logger)
        var deadlines = PodDeadlines()
        deadlines.sandboxStart = fault == .hang ? .seconds(4) : .seconds(60)
        deadlines.release = fault == .hang ? .seconds(1) : .seconds(30)
        let logs = LocalOutput(directory: directory, reader: AgentOutput(links: AgentLinks(), logger: logger), logger: logger)
        let registry = PodRegistry(
            handlers: [handler], network: network, releasers: resources.releasers, images: images, database: database,
            output: InProcessOutput(logs: logs), deadlines: deadlines, logger: logger)
        return Daemon(registry: registry, images: images, database: database, handler: handler)
    }

    /// What is left of pods, on the node and in the ledger.
    func leaks() async throws -> [String] {
        let database = try StateDatabase(path: directory + "/state.sqlite")
        var left = try await database.read { try ResourceRecord.fetchAll($0) }.map { "ledger: \($0.kind) \($0.name)" }
        left += hypervisor.running.map { "machine \($0)" } + network.existing
        let files = FileManager.default
        left += try files.contentsOfDirectory(atPath: directory + "/r").map { "run directory: \($0)" }
        left += try files.contentsOfDirectory(atPath: directory + "/s").filter { $0 != "scratch" }.map { "state directory: \($0)" }
        left += try files.contentsOfDirectory(atPath: directory + "/s/scratch").filter { !$0.hasPrefix("template-") }
        left += try String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8).split(separator: "\n").filter {
            $0.contains(directory + "/")
        }.map { "mount: \($0)" }
        return left + processes()
    }

    /// Processes that were started for this node's pods.
    private func processes() -> [String] {
        let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return processes.filter { Int($0) != nil }.compactMap { process in
            let line = FileManager.default.contents(atPath: "/proc/\(process)/cmdline").map { String(decoding: $0, as: UTF8.self) } ?? ""
            return line.contains(directory + "/") ? "process: \(line.replacing("\0", with: " "))" : nil
        }
    }

    /// Taps that are left of any case.
    static func taps(on ground: MatrixGround) throws -> [String] {
        try NetworkNamespace.runAndWait(in: ground.namespace) { try RouteNetlink().links().filter { $0.kind == "tun" }.map(\.name) }
    }

    func remove() {
        try? FileManager.default.removeItem(atPath: directory)
    }
}

import CRIServer
import CoreMetrics
import Errors
import Foundation
import GRPC
import Glibc
import HostRuntime
import Images
import Linux
import Logging
import Machines
import MicroVMRuntime
import NativeVMRuntime
import PodMachine
import PodNetwork
import Pods
import Prometheus
import Runtime
import State
import StreamControl
import SwiftletVersion

/// The wired daemon.
struct Daemon: Sendable {
    let opened: Openings

    /// - Throws: what failed, with everything closed that was open by then; `CancellationError` between two steps.
    ///
    /// - Parameter libvirt: decided before the daemon had threads; nil: as configured.
    static func start(
        _ configuration: Configuration, libvirt: LibvirtConfiguration.Connection? = nil, metrics: PrometheusRegistry? = nil, logger: Logger
    ) async throws -> Daemon {
        let endpoint = try configuration.checkedEndpoint()
        // QEMU's user passes through these two; the daemon's own state is nobody else's: it holds containers' environments.
        for directory in [configuration.root, configuration.run] { try makeDirectory(directory, mode: 0o711) }
        for directory in ["state", "containers", "cni"] { try makeDirectory("\(configuration.root)/\(directory)", mode: 0o700) }
        let lock = try await DirectoryLock(configuration.root)
        var opened = Openings()
        opened.add { lock.release() }
        do {
            let users = try await UserRangeLock(try configuration.podUsers())
            opened.add { users.release() }
            let database = try StateDatabase(path: configuration.root + "/state/state.sqlite")
            let connection = libvirt ?? configuration.machine.libvirtConnection(root: configuration.root)
            try await open(configuration, connection, on: endpoint, metrics, database, logger, &opened)
        } catch {
            await opened.close()
            throw error
        }
        return Daemon(opened: opened)
    }

    private static func open(
        _ configuration: Configuration, _ libvirt: LibvirtConfiguration.Connection, on endpoint: Endpoint, _ metrics: PrometheusRegistry?,
        _ database: StateDatabase, _ logger: Logger, _ opened: inout Openings
    ) async throws {
        let images = try await ImageStore(configuration: try configuration.imageStore(), database: database, logger: logger)
        opened.add { await images.shutdown() }
        try Task.checkCancellation()
        var (machine, cni) = (LibvirtConfiguration(connection: libvirt, users: try configuration.podUsers()), configuration.cni)
        machine.embeddedRunDirectory = configuration.run + "/libvirt"
        if case .embed = libvirt {
            // An empty one: a QEMU that is broken out of finds neither the node's network nor its abstract sockets.
            let namespace = try NetworkNamespace.create()
            opened.add { Glibc.close(namespace) }
            machine.networkNamespace = NetworkNamespace.path(of: namespace)
            cni.machineNamespace = machine.networkNamespace
        }
        let hypervisor = try await LibvirtHypervisor.open(machine, logger: logger)
        opened.add { await hypervisor.close() }
        try Task.checkCancellation()
        let networks = PodNetworks(configuration: cni, logger: logger)
        let machines = MachineResources(
            hypervisor: hypervisor, networks: networks, users: try configuration.podUsers(), logger: logger)
        let microVM = MicroVMResources(configuration: try await configuration.microVM(logger: logger), machines: machines)
        let host = HostResources(configuration: try configuration.hostConfiguration())
        let machineHandlers: [any RuntimeHandler] = [
            try await MicroVMHandler(resources: microVM, logger: logger),
            try NativeVMHandler(
                configuration: configuration.nativeVM(microVM.configuration), machines: machines, logger: logger),
        ]
        let handlers = machineHandlers + (try configuration.hostHandlers().map { try HostHandler($0, resources: host, logger: logger) })
        try Task.checkCancellation()
        let crashes = crashRecord(configuration, logger, &opened)
        let streams = StreamDaemon(configuration: try configuration.streamDaemon(), logger: logger)
        opened.add { streams.close() }
        let pods = PodRegistry(
            handlers: handlers, network: networks, releasers: microVM.releasers + host.releasers, images: images, database: database,
            output: streams,
            logBudget: try configuration.logBudget(), logRotation: try configuration.logRotation(),
            sessions: configuration.stream.address.isEmpty ? nil : streams,
            nodeHandler: configuration.host.nodePods.isEmpty ? nil : configuration.host.nodePods, crashes: crashes, logger: logger)
        opened.add { pods.close() }
        opened.add { await pods.closePools() }
        try await pods.recover()
        try Task.checkCancellation()
        pods.startCollector()
        let service = CRIService(
            pods: pods, images: images, version: swiftletVersion, paths: configuration.paths, configuration: configuration.json,
            cgroupDriver: try configuration.checkedCgroupDriver(), metrics: metrics ?? MetricsSystem.factory, logger: logger)
        if let metrics, let address = try configuration.metricsAddress() {
            DaemonMetrics.observe(pods, in: metrics)
            if configuration.logs.collection.isConfigured { DaemonMetrics.observe({ streams.collectors }, in: metrics) }
            let metricsEndpoint = try await MetricsEndpoint.start(at: address, metrics)
            opened.add { await metricsEndpoint.stop() }
            logger.info("serving metrics", metadata: ["address": "\(metricsEndpoint.address)"])
        }
        let server = GRPCServer(methods: service.methodTable(), logger: logger, errorStatus: ErrorMapping.status)
        _ = try server.listen(on: endpoint)
        server.start()
        opened.add {
            // Calls in flight may end. A call for events has no end of its own.
            pods.endEvents()
            await server.shutdown(grace: .seconds(5))
        }
        logger.info("serving", metadata: ["endpoint": "\(configuration.endpoint)"])
    }

    /// How long the daemon has to live until its next crash is no more of the same kind.
    private static let crashRow = Duration.seconds(600)

    private static func crashRecord(_ configuration: Configuration, _ logger: Logger, _ opened: inout Openings) -> CrashRecord? {
        do {
            let record = try CrashRecord(path: configuration.root + "/state/crash")
            if let crash = record.last {
                logger.error(
                    "the daemon before crashed",
                    metadata: [
                        "signal": "\(crash.signal)", "crashesInARow": "\(crash.crashesInARow)",
                        "culprit": "\(crash.culprit ?? "unknown")",
                    ])
            }
            let row = Task {
                try await Task.sleep(for: crashRow)
                record.endRow()
            }
            opened.add { row.cancel() }
            return record
        } catch {
            logger.warning("crashes are not noted", metadata: ["error": "\(error)"])
            return nil
        }
    }

    private static func makeDirectory(_ path: String, mode: Int) throws {
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
        } catch {
            throw SwiftletError(.failedPrecondition, "make directory \(path)", cause: error)
        }
    }

    /// Lets calls in flight finish, then closes everything. Pods go on.
    func close() async {
        await opened.close()
    }
}

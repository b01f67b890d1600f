import CRIServer
import Errors
import Foundation
import GRPC
import Images
import Logging
import Machines
import MicroVMRuntime
import PodNetwork
import Pods
import Runtime
import State
import SwiftletVersion

/// The wired daemon.
struct Daemon: Sendable {
    /// Held as long as the daemon lives.
    private let lock: DirectoryLock
    private let server: GRPCServer
    private let pods: PodRegistry
    private let images: ImageStore
    private let hypervisor: LibvirtHypervisor

    static func start(_ configuration: Configuration, libvirt: LibvirtConfiguration.Connection, logger: Logger) async throws -> Daemon {
        let endpoint = try Endpoint(parsing: configuration.endpoint)
        // QEMU's user passes through these two; the daemon's own state is nobody else's: it holds containers' environments.
        for directory in [configuration.root, configuration.run] { try makeDirectory(directory, mode: 0o711) }
        for directory in ["state", "containers", "cni"] { try makeDirectory("\(configuration.root)/\(directory)", mode: 0o700) }
        let lock = try DirectoryLock(configuration.root)
        let database = try StateDatabase(path: configuration.root + "/state/state.sqlite")
        let images = try await ImageStore(
            configuration: ImageStoreConfiguration(
                root: configuration.root + "/images",
                registries: configuration.registries.map {
                    RegistryConfiguration(host: $0.host, mirrors: $0.mirrors, plainHTTP: $0.plainHTTP)
                }),
            database: database, logger: logger)
        do {
            return try await serve(configuration, libvirt, on: endpoint, lock, database, images, logger)
        } catch {
            await images.shutdown()
            throw error
        }
    }

    private static func serve(
        _ configuration: Configuration, _ libvirt: LibvirtConfiguration.Connection, on endpoint: Endpoint, _ lock: DirectoryLock,
        _ database: StateDatabase, _ images: ImageStore, _ logger: Logger
    ) async throws -> Daemon {
        let hypervisor = try await LibvirtHypervisor.open(LibvirtConfiguration(connection: libvirt), logger: logger)
        let networks = PodNetworks(
            configuration: CNIConfiguration(
                configDirectory: configuration.network.configDirectory,
                template: configuration.network.template.isEmpty ? nil : configuration.network.template,
                pluginDirectories: configuration.network.pluginDirectories,
                cacheDirectory: configuration.root + "/cni", namespaceDirectory: configuration.run + "/pods"),
            logger: logger)
        let machines = MicroVMResources(
            configuration: try await configuration.microVM(logger: logger), hypervisor: hypervisor, networks: networks,
            logger: logger)
        let handler = try await MicroVMHandler(resources: machines, logger: logger)
        let pods = PodRegistry(
            handlers: [handler], network: networks, releasers: machines.releasers, images: images, database: database,
            stateDirectory: configuration.root + "/containers", logger: logger)
        try await pods.recover()
        pods.startCollector()
        let service = CRIService(
            pods: pods, images: images, version: swiftletVersion, paths: configuration.paths, configuration: configuration.json,
            cgroupDriver: try configuration.checkedCgroupDriver(), logger: logger)
        let server = GRPCServer(methods: service.methodTable(), logger: logger, errorStatus: ErrorMapping.status)
        _ = try server.listen(on: endpoint)
        server.start()
        logger.info("serving", metadata: ["endpoint": "\(configuration.endpoint)"])
        return Daemon(lock: lock, server: server, pods: pods, images: images, hypervisor: hypervisor)
    }

    private static func makeDirectory(_ path: String, mode: Int) throws {
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
        } catch {
            throw SwiftletError(.failedPrecondition, "make directory \(path)", cause: error)
        }
    }

    /// Lets calls in flight finish, then closes. Pods go on.
    func stop() async {
        pods.endEvents()
        await server.shutdown(grace: .seconds(5))
        pods.close()
        await images.shutdown()
        await hypervisor.close()
    }
}

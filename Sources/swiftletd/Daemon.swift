import CRIServer
import Errors
import Foundation
import GRPC
import Images
import Logging
import MicroVM
import Network
import Pods
import State

/// The wired daemon.
struct Daemon: Sendable {
    private let server: GRPCServer
    private let pods: PodRegistry
    private let images: ImageStore
    private let hypervisor: LibvirtHypervisor

    static func start(_ configuration: Configuration, logger: Logger) async throws -> Daemon {
        for directory in [configuration.root, configuration.run] {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        }
        let endpoint = try Endpoint(parsing: configuration.endpoint)
        let database = try StateDatabase(path: configuration.root + "/state.sqlite")
        let images = try await ImageStore(
            configuration: ImageStoreConfiguration(
                root: configuration.root + "/images",
                registries: configuration.registries.map {
                    RegistryConfiguration(host: $0.host, mirrors: $0.mirrors, plainHTTP: $0.plainHTTP)
                }),
            database: database, logger: logger)
        let hypervisor = try await LibvirtHypervisor.open(
            configuration.machine.libvirtConfiguration(root: configuration.root), logger: logger)
        let networks = PodNetworks(
            configuration: CNIConfiguration(
                configDirectory: configuration.network.configDirectory, pluginDirectories: configuration.network.pluginDirectories,
                cacheDirectory: configuration.root + "/cni"),
            logger: logger)
        let handler = try await MicroVMHandler(
            configuration: await configuration.microVM(logger: logger), hypervisor: hypervisor, networks: networks, logger: logger)
        let containers = configuration.root + "/containers"
        try FileManager.default.createDirectory(atPath: containers, withIntermediateDirectories: true)
        let pods = PodRegistry(handlers: [handler], images: images, database: database, stateDirectory: containers, logger: logger)
        try await pods.recover()
        pods.startCollector()
        let service = CRIService(pods: pods, images: images, version: SwiftletDaemon.version, logger: logger)
        let server = GRPCServer(methods: service.methodTable(), logger: logger, errorStatus: ErrorMapping.status)
        _ = try server.listen(on: endpoint)
        server.start()
        logger.info("serving", metadata: ["endpoint": "\(configuration.endpoint)"])
        return Daemon(server: server, pods: pods, images: images, hypervisor: hypervisor)
    }

    /// Lets calls in flight finish, then closes. Pods go on.
    func stop() async {
        await server.shutdown(grace: .seconds(5))
        pods.close()
        await images.shutdown()
        await hypervisor.close()
    }
}

import ArgumentParser
import CoreMetrics
import Daemons
import Errors
import Foundation
import Glibc
import Linux
import Logging
import Machines
import Prometheus
import ServiceLifecycle
import SwiftletVersion

/// swiftletd: the CRI server.
@main
struct SwiftletDaemon: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "swiftletd",
        abstract: "Kubernetes container runtime that gives every pod a virtual machine.",
        version: swiftletVersion)

    @Option(name: .shortAndLong, help: "Configuration file (TOML).")
    var config: String?

    @Option(help: "Where the CRI is served, unix:///PATH or tcp://HOST:PORT; replaces the configured one.")
    var endpoint: String?

    @Option(help: "trace, debug, info, notice, warning, error or critical; replaces the configured one.")
    var logLevel: String?

    @Flag(help: "Prints the whole configuration in JSON, defaults included, and ends.")
    var printConfig = false

    func run() throws {
        do {
            Backtraces.printNoMemory()
            // What is made without a mode of its own is nobody else's to write.
            umask(0o022)
            var configuration = try Configuration.load(path: config)
            if let endpoint { configuration.endpoint = endpoint }
            if let logLevel { configuration.logLevel = logLevel }
            guard let level = Logger.Level(rawValue: configuration.logLevel) else {
                throw SwiftletError(.invalidArgument, "log_level \(configuration.logLevel) is unknown")
            }
            if printConfig {
                print(configuration.json)
                return
            }
            // Before any thread exists: the first changes the environment, the second forks.
            let manager = ServiceManager.fromEnvironment()
            let libvirt = configuration.machine.libvirtConnection(root: configuration.root)
            if case .embed = libvirt { try Subreaper.runBelow() }
            LoggingSystem.bootstrap { PrintableLogHandler(StreamLogHandler.standardError(label: $0)) }
            var logger = Logger(label: "swiftletd")
            logger.logLevel = level
            try Self.serve(configuration, libvirt, manager, logger)
        } catch {
            FileHandle.standardError.write(Data("swiftletd: \(error)\n".utf8))
            throw ExitCode.failure
        }
    }

    /// Runs the daemon until SIGTERM or SIGINT. Pods go on without it.
    private static func serve(
        _ configuration: Configuration, _ libvirt: LibvirtConfiguration.Connection, _ manager: ServiceManager, _ logger: Logger
    ) throws {
        OpenFiles.raiseLimit(logger)
        MemoryLimits.apply()
        signal(SIGPIPE, SIG_IGN)
        let metrics = try configuration.metricsAddress().map { _ in PrometheusRegistry(DaemonMetrics.descriptions) }
        if let metrics { MetricsSystem.bootstrap(metrics) }
        let service = DaemonService(
            start: {
                let daemon = try await Daemon.start(configuration, libvirt: libvirt, metrics: metrics, logger: logger)
                MemoryLimits.forgetStart()
                return daemon
            }, manager: manager, logger: logger)
        var group = ServiceGroupConfiguration(services: [service], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
        // A close that hangs is cancelled, then the service manager's business.
        group.maximumGracefulShutdownDuration = .seconds(60)
        let services = ServiceGroup(configuration: group)
        try MainThread.run { try await services.run() }
    }
}

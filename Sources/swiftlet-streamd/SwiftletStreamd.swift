import AgentClient
import ArgumentParser
import CLinux
import Daemons
import Errors
import Foundation
import Linux
import LogCollection
import Logging
import Logs
import ServiceLifecycle
import StreamControl
import StreamServer
import SwiftletVersion

/// swiftlet-streamd: carries the bytes of containers.
@main
struct SwiftletStreamd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "swiftlet-streamd",
        abstract: "Serves exec and port-forward of a node's containers.",
        discussion: """
            swiftletd starts it where it does not run, and tells it over the control socket what to do. It goes on without swiftletd. \
            Clients come with the URLs that swiftletd gave them.
            """,
        version: swiftletVersion)

    @Option(
        help:
            "The socket for swiftletd, made with mode 0600; beside it lies who has crashed this process. With LISTEN_FDS, descriptor 3 is it."
    )
    var controlSocket: String

    @Option(help: "Where it is kept how far each log has come: a directory that swiftletd has made.")
    var positions: String

    @Option(help: "Write one byte to this descriptor and close it once the socket is served.")
    var readyFd: Int32?

    @Option(help: "trace, debug, info, notice, warning, error or critical.")
    var logLevel = "info"

    func run() throws {
        do {
            Backtraces.printNoMemory()
            let listening = try SocketActivation.descriptor()
            // Logs are for their group as well; whatever else is made has its mode said.
            umask(0o022)
            guard let level = Logger.Level(rawValue: logLevel) else {
                throw SwiftletError(.invalidArgument, "--log-level \(logLevel) is unknown")
            }
            LoggingSystem.bootstrap { PrintableLogHandler(StreamLogHandler.standardError(label: $0)) }
            var logger = Logger(label: "swiftlet-streamd")
            logger.logLevel = level
            _ = try DescriptorLimit.raise()
            try Confinement.apply()
            MemoryLimits.apply()
            // swiftletd's own, which it inherits, would have others killed for what its clients and guests make it take.
            try? KernelFile.write("0", to: "/proc/self/oom_score_adj")
            signal(SIGPIPE, SIG_IGN)
            let service = StreamdService(
                controlSocket: controlSocket, listening: listening, positions: positions, readyDescriptor: readyFd, logger: logger)
            var group = ServiceGroupConfiguration(services: [service], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
            group.maximumGracefulShutdownDuration = .seconds(10)
            let services = ServiceGroup(configuration: group)
            try MainThread.run { try await services.run() }
        } catch {
            FileHandle.standardError.write(Data("swiftlet-streamd: \(error)\n".utf8))
            throw ExitCode.failure
        }
    }
}

/// Serves until it is asked to end, which ends all sessions.
private struct StreamdService: Service {
    let controlSocket: String
    /// It, where a service manager listens on it.
    let listening: Int32?
    let positions: String
    let readyDescriptor: Int32?
    let logger: Logger

    func run() async throws {
        let guests = Guests(culprits: Culprits(path: controlSocket + ".culprits", logger: logger))
        let collectors = LogCollectors(logger: logger)
        let logs = LocalOutput(
            directory: positions, reader: EndpointOutput(links: guests.links, logger: logger), collector: collectors, logger: logger)
        let written = WrittenLogs(directory: positions, collector: collectors, logger: logger)
        let backend = GuestBackend(guests: guests, logs: logs, logger: logger)
        let sessions = SessionPort(backend: backend, logger: logger)
        let handler = StreamdControl(
            sessions: sessions, positions: positions, guests: guests, logs: logs, written: written, collectors: collectors,
            commands: backend.commands)
        let control =
            if let listening {
                try StreamControlServer(listening: listening, handler: handler)
            } else {
                try StreamControlServer(path: controlSocket, handler: handler)
            }
        let serving = Task { await sessions.run() }
        logger.info("serving", metadata: ["control": "\(controlSocket)"])
        sayReady()
        MemoryLimits.forgetStart()
        try? await gracefulShutdown()
        control.stop()
        serving.cancel()
        await serving.value
        await guests.rest(within: .seconds(2))
        await collectors.stop(within: LogCollectors.patience)
    }

    private func sayReady() {
        guard let readyDescriptor else { return }
        var byte: UInt8 = 1
        _ = write(readyDescriptor, &byte, 1)
        close(readyDescriptor)
    }
}

import ArgumentParser
import Errors
import Foundation
import Glibc
import Linux
import Logging
import Machines
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

    func run() throws {
        do {
            var configuration = try Configuration.load(path: config)
            if let endpoint { configuration.endpoint = endpoint }
            if let logLevel { configuration.logLevel = logLevel }
            guard let level = Logger.Level(rawValue: configuration.logLevel) else {
                throw SwiftletError(.invalidArgument, "log_level \(configuration.logLevel) is unknown")
            }
            // Before any thread exists: this forks.
            let libvirt = configuration.machine.libvirtConnection(root: configuration.root)
            if case .embed = libvirt { try Subreaper.runBelow() }
            LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
            var logger = Logger(label: "swiftletd")
            logger.logLevel = level
            try Self.serve(configuration, libvirt, logger)
        } catch {
            FileHandle.standardError.write(Data("swiftletd: \(error)\n".utf8))
            throw ExitCode.failure
        }
    }

    /// Runs the daemon until SIGTERM or SIGINT. Pods go on without it.
    private static func serve(_ configuration: Configuration, _ libvirt: LibvirtConfiguration.Connection, _ logger: Logger) throws {
        MemoryLimits.apply()
        signal(SIGPIPE, SIG_IGN)
        let ended = DispatchSemaphore(value: 0)
        let outcome = Outcome()
        let signals = [SIGTERM, SIGINT].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { ended.signal() }
            source.resume()
            return source
        }
        Task {
            do {
                let daemon = try await Daemon.start(configuration, libvirt: libvirt, logger: logger)
                outcome.set(.success(daemon))
                MemoryLimits.forgetStart()
            } catch {
                outcome.set(.failure(error))
                ended.signal()
            }
        }
        ended.wait()
        for source in signals { source.cancel() }
        switch outcome.value {
        case .failure(let error): throw error
        case .success(let daemon):
            let stopped = DispatchSemaphore(value: 0)
            Task {
                await daemon.stop()
                stopped.signal()
            }
            stopped.wait()
        case nil: return
        }
    }
}

/// What the start came to, handed from its task to the main thread.
private final class Outcome: Sendable {
    private let lock = NSLock()
    // Guarded by `lock`.
    private nonisolated(unsafe) var result: Result<Daemon, any Error>?

    var value: Result<Daemon, any Error>? { lock.withLock { result } }

    func set(_ value: Result<Daemon, any Error>) {
        lock.withLock { result = value }
    }
}

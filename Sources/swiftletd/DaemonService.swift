import Logging
import ServiceLifecycle

/// Starts the daemon, lets it serve until it is asked to end, and closes it. Pods go on without it.
///
/// A graceful shutdown during the start cancels it; what the start had opened is closed.
struct DaemonService: Service {
    let start: @Sendable () async throws -> Daemon
    let manager: ServiceManager
    let logger: Logger

    func run() async throws {
        guard let daemon = try await startedUnlessAskedToEnd() else { return }
        manager.notify("READY=1")
        // Throws when the task is cancelled, which asks for the same.
        try? await gracefulShutdown()
        manager.notify("STOPPING=1")
        await daemon.close()
    }

    /// - Returns: nil when the daemon was asked to end first.
    private func startedUnlessAskedToEnd() async throws -> Daemon? {
        do {
            let daemon = try await cancelWhenGracefulShutdown(start)
            guard Task.isShuttingDownGracefully || Task.isCancelled else { return daemon }
            // Not every step of a start checks its cancellation.
            await daemon.close()
        } catch {
            guard Task.isShuttingDownGracefully || Task.isCancelled else { throw error }
            logger.info("the start was ended", metadata: ["at": "\(error)"])
        }
        manager.notify("STOPPING=1")
        return nil
    }
}

/// What a start has opened, to be closed the other way round: at the daemon's end, or when a later step of the start fails.
struct Openings: Sendable {
    private var closers: [@Sendable () async -> Void] = []

    mutating func add(_ close: @escaping @Sendable () async -> Void) {
        closers.append(close)
    }

    func close() async {
        for close in closers.reversed() { await close() }
    }
}

import Concurrency
import Errors
import Glibc
import Linux
import Runtime

extension HostSandbox {
    /// A pod in the node's network has the node's loopback, as with other runtimes.
    var ports: PortEndpoint {
        get async throws {
            guard let path = context.network.namespacePath else { return .nodeLoopback }
            guard let address = network.attached?.podIPs.first else {
                throw SwiftletError(.failedPrecondition, "port-forward: the pod has no address")
            }
            try await OwnThread.run { [self] in try listen(path) }
            return .loopback(path: path, address: address, sockets: names.sockets)
        }
    }

    private func listen(_ namespace: String) throws {
        try sockets.withLock { sockets in
            if sockets == nil { sockets = try PodSockets(at: names.sockets, namespace: namespace, logger: logger) }
        }
    }

    func execEndpoint(of id: String, for streams: SessionStreams) async throws -> ExecEndpoint { .process }

    func openProcess(
        _ id: String, _ command: [String], _ streams: SessionStreams, size: InitialTerminalSize?,
        join: @escaping @Sendable (JoinableProcess) async throws -> Void
    ) async throws {
        let (record, bundle, configuration) = (try record(id), names.bundle(id), handler.configuration)
        let directory = SessionDirectory(in: bundle)
        let conmon = ConmonExec(
            path: configuration.conmon, runtime: handler.runtime, container: id, directory: directory, terminal: streams.terminal,
            stdin: streams.stdin)
        let end = SessionEnd(directory, record)
        let waiting: ConmonExec.Waiting
        do {
            waiting = try await OwnThread.run {
                try directory.create()
                try Self.write(command, terminal: streams.terminal, size: size, bundle, to: directory.specification)
                return try conmon.launch(within: configuration.runtimeDeadline) { try record.monitorCgroup?.place($0) }
            }
        } catch {
            await OwnThread.answer { directory.remove() }
            throw error
        }
        do {
            try await join(directory.joinable(id, hasInput: streams.stdin))
            let process = try await OwnThread.run { try waiting.begin(within: configuration.runtimeDeadline, container: id) }
            // Its pipes are not needed any more.
            let monitor = waiting.monitor
            Task { await end.follow(process, monitor) }
        } catch {
            // It starts the process when it is let go of.
            let monitor = waiting.monitor
            await OwnThread.answer { monitor.kill() }
            Task { await end.follow(nil, monitor) }
            throw error
        }
    }

    /// Takes up the sessions that an earlier daemon has left. Blocks.
    func followSessions() {
        if let path = context.network.namespacePath, access(names.sockets, F_OK) == 0 {
            do { try listen(path) } catch { logger.warning("ports are not forwarded", metadata: ["error": "\(error)"]) }
        }
        for record in records {
            for directory in SessionDirectory.all(in: names.bundle(record.container)) {
                Task { await SessionEnd(directory, record).follow() }
            }
        }
    }
}

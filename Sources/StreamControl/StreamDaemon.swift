import Concurrency
import Errors
import Glibc
import Linux
import Logging
import Runtime
import SwiftProtobuf
import Synchronization

/// swiftlet-streamd as swiftletd sees it: connected to, started when nobody answers, replaced when it hangs. It belongs to the node, not to
/// this process, and lives on when this process is killed.
public final class StreamDaemon: Sendable {
    public struct Configuration: Sendable {
        /// Of the program.
        public var binary: String
        public var controlSocket: String
        /// How clients are served.
        public var sessions: StreamConfigureRequest
        /// The directory in which it is kept how far each log has come.
        public var positions: String
        /// The file that gets the program's output.
        public var log: String
        /// Logs are to be rotated by size.
        public var rotatesLogs = false
        /// How long it may take to say what it is. One that takes longer, twice in a row, is replaced.
        public var patience: Duration = .seconds(10)
        /// How long after the end of a connection another is made where nobody asks for one.
        public var idleDelay: Duration = .seconds(2)

        public init(binary: String, controlSocket: String, sessions: StreamConfigureRequest, positions: String, log: String) {
            (self.binary, self.controlSocket, self.sessions) = (binary, controlSocket, sessions)
            (self.positions, self.log) = (positions, log)
        }
    }

    private struct Attempts {
        /// The last one that failed, which stands for those that come right after it.
        var failed: (at: ContinuousClock.Instant, error: any Error)?
        /// How often in a row it has taken the connection and said nothing.
        var unanswered = 0
    }

    /// Silent that often, it hangs.
    private static let mostUnanswered = 2
    /// How soon after a failed attempt the next one is made.
    private static let attemptInterval = Duration.seconds(1)

    private let configuration: Configuration
    let logger: Logger
    /// That this process has started, until it is known to have ended.
    private let started = Mutex<ProcessIdentity?>(nil)
    private let current = Mutex<StreamControlClient?>(nil)
    private let attempts = Mutex(Attempts())
    private let connections = SingleFlight<NoKey, StreamControlClient>(whenAbandoned: .finish)
    private let told = Mutex<[StreamCollector]>([])
    /// Connects again; nil when this has ended.
    private let reconnecting = Mutex<Task<Void, Never>??>(.some(nil))
    let logs = Mutex(KnownLogs())
    /// Of logs, by container.
    let openings = SingleFlight<String, StreamControlClient>(whenAbandoned: .finish)

    public init(configuration: Configuration, logger: Logger) { (self.configuration, self.logger) = (configuration, logger) }

    /// A live connection.
    ///
    /// - Throws: `unavailable` with the reason when streamd can neither be reached nor started.
    public func client() async throws -> StreamControlClient {
        if let client = live { return client }
        return try await connections.run { [self] in try await connect() }
    }

    /// Ends the connection. streamd goes on.
    public func close() {
        reconnecting.withLock { task in
            task??.cancel()
            task = nil
        }
        connections.cancel()
        for log in logs.withLock({ $0.end() }) { log.following?.cancel() }
        current.withLock { $0 }?.close()
    }

    /// What became of the lines that were for collectors, as streamd has said a moment ago.
    public var collectors: [StreamCollector] { told.withLock { $0 } }

    /// Lines of logs go to collectors.
    var collectsLines: Bool { configuration.sessions.hasCollection }

    var live: StreamControlClient? { current.withLock { $0 }.flatMap { $0.isClosed ? nil : $0 } }

    private func connect() async throws -> StreamControlClient {
        if let client = live { return client }
        if let failed = attempts.withLock({ $0.failed }), .now - failed.at < Self.attemptInterval { throw failed.error }
        do {
            let client = try await connectNow()
            _ = try await client.call(.configure, configuration.sessions, timeout: configuration.patience)
            try await closeUnknownLogs(client)
            current.withLock { $0 = client }
            attempts.withLock { $0 = Attempts() }
            watch(client)
            if configuration.sessions.hasCollection, !client.info.features.contains(StreamContract.collection) {
                logger.warning("logs are not collected: swiftlet-streamd is of an older release; end it when its sessions may end")
            }
            if configuration.rotatesLogs, !client.info.features.contains(StreamContract.rotation) {
                logger.warning("logs are not rotated: swiftlet-streamd is of an older release; end it when its sessions may end")
            }
            logger.info(
                "connected to swiftlet-streamd",
                metadata: ["pid": "\(client.info.pid)", "version": "\(client.info.version)", "url": "\(client.info.url)"])
            return client
        } catch {
            attempts.withLock { $0.failed = (.now, error) }
            throw error
        }
    }

    private func connectNow() async throws -> StreamControlClient {
        let socket = configuration.controlSocket
        do {
            let client = try await StreamControlClient.connect(to: socket, patience: configuration.patience)
            guard let reason = unfitness(client.info) else { return client }
            client.close()
            try await replace(client.info.pid, reason)
            // A service manager that listens there starts the next one.
            if let next = try? await StreamControlClient.connect(to: socket, patience: configuration.patience) {
                if let reason = unfitness(next.info) {
                    throw SwiftletError(.failedPrecondition, "swiftlet-streamd cannot be used: \(reason)")
                }
                return next
            }
        } catch let error as SwiftletError where error.code == .deadlineExceeded {
            let unanswered = attempts.withLock { attempts in
                attempts.unanswered += 1
                return attempts.unanswered
            }
            guard unanswered >= Self.mostUnanswered, let pid = StreamControlClient.server(of: socket) else { throw error }
            try await replace(pid, "it does not answer")
        } catch let error as SwiftletError where error.code == .unavailable {
            logger.debug("swiftlet-streamd is not there", metadata: ["error": "\(error)"])
        }
        try await start()
        return try await StreamControlClient.connect(to: socket, patience: configuration.patience)
    }

    /// Why the one that runs cannot stay; nil for one that can. Its version does not count.
    private func unfitness(_ info: StreamGetInfoResponse) -> String? {
        for feature in [StreamContract.logs, StreamContract.configure] where !info.features.contains(feature) {
            return "it is of an older release, without \(quoted(feature))"
        }
        if info.positions != configuration.positions { return "it keeps its positions in \(quoted(info.positions))" }
        return nil
    }

    private func replace(_ pid: Int32, _ reason: String) async throws {
        logger.warning("swiftlet-streamd is replaced, which ends its sessions", metadata: ["pid": "\(pid)", "reason": "\(reason)"])
        guard let process = ProcessIdentity.of(pid) else { return }
        try await OwnThread.run {
            _ = try? process.signal(SIGTERM)
            if process.waitForExit(.seconds(3)) { return }
            process.kill()
            guard process.waitForExit(.seconds(5)) else {
                throw SwiftletError(.unavailable, "swiftlet-streamd \(process.pid) does not end on SIGKILL")
            }
        }
    }

    private func start() async throws {
        let configuration = configuration
        let arguments = ["--control-socket", configuration.controlSocket, "--positions", configuration.positions]
        started.withLock { $0 }?.reap()
        do {
            let process = try await OwnThread.run {
                try DetachedProcess.startAndWait(
                    configuration.binary, arguments, log: configuration.log, what: "stream daemon", within: .seconds(10))
            }
            started.withLock { $0 = process }
            logger.info("swiftlet-streamd started", metadata: ["pid": "\(process.pid)"])
        } catch {
            throw SwiftletError(.unavailable, "start swiftlet-streamd", cause: error)
        }
    }

    /// Asks now and then whether it is still there: who waits for a log would wait for one that hangs without an end.
    private func watch(_ client: StreamControlClient) {
        let patience = configuration.patience
        let asking = Task { [weak client] in
            while !Task.isCancelled {
                try await Task.sleep(for: patience)
                guard let client, !client.isClosed else { return }
                do {
                    let info = try await client.call(.getInfo, StreamGetInfoRequest(), timeout: patience)
                    told.withLock { $0 = info.collectors }
                } catch let error as SwiftletError where error.code != .cancelled {
                    client.close()
                }
            }
        }
        client.onClose { [weak self] in
            asking.cancel()
            self?.reconnect()
        }
    }

    private static let longestPause = Duration.seconds(60)

    /// Connects again, and starts the program where it has ended, also where no log is followed that would have it done: containers of the
    /// node write their logs without it.
    func reconnect() {
        let delay = configuration.idleDelay
        reconnecting.withLock { task in
            guard let former = task else { return }
            former?.cancel()
            task = Task { [weak self] in
                var pause = delay
                while (try? await Task.sleep(for: pause)) != nil {
                    guard let self else { return }
                    if (try? await client()) != nil { return }
                    pause = min(pause * 2, Self.longestPause)
                }
            }
        }
    }

    /// Calls a method that can be repeated; a connection that is lost meanwhile is made anew, once.
    func call<Request: Message, Response: Message>(
        _ method: StreamMethod<Request, Response>, _ request: Request, timeout: Duration?
    ) async throws -> Response {
        try await connected { try await $0.call(method, request, timeout: timeout) }
    }

    /// Does what can be repeated; with a connection that is made anew, once, when the first is lost meanwhile.
    func connected<Value>(_ body: (StreamControlClient) async throws -> Value) async throws -> Value {
        let client = try await client()
        do {
            return try await body(client)
        } catch let error as SwiftletError where error.code == .unavailable && client.isClosed {
            return try await body(try await self.client())
        }
    }
}

extension StreamDaemon: ContainerSessions {
    public func exec(
        _ command: [String], in endpoint: OutputEndpoint, of sandbox: String, _ streams: SessionStreams
    ) async throws -> String {
        guard case .agent(let address, let container) = endpoint else {
            throw SwiftletError(
                .unimplemented,
                "exec: this container is a virtual machine that runs no agent; attach to its console (kubectl attach -it), or log in by SSH"
            )
        }
        let request = StreamPrepareExecRequest.with {
            ($0.guest, $0.containerID) = (StreamGuest(address, sandbox: sandbox), container)
            $0.command = command
            ($0.stdin, $0.stdout, $0.stderr, $0.terminal) = (streams.stdin, streams.stdout, streams.stderr, streams.terminal)
        }
        return try await call(.prepareExec, request, timeout: .seconds(10)).url
    }

    public func attach(
        to endpoint: OutputEndpoint, of container: String, in sandbox: String, _ streams: SessionStreams, stdinOnce: Bool
    ) async throws -> String {
        if case .conmon = endpoint { try await client().require(StreamContract.conmon, "containers of the node cannot be attached to") }
        if case .console = endpoint { try await client().require(StreamContract.console, "consoles cannot be attached to") }
        let request = StreamPrepareAttachRequest.with {
            $0.containerID = container
            switch endpoint {
            case .agent(let address, let known): ($0.guest, $0.containerID) = (StreamGuest(address, sandbox: sandbox), known)
            case .console(let log, let socket): $0.console = StreamConsole(log: log, socket: socket, sandbox: sandbox)
            case .conmon(let conmon): $0.conmon = StreamConmon(conmon, sandbox: sandbox)
            }
            ($0.stdin, $0.stdout, $0.stderr, $0.terminal) = (streams.stdin, streams.stdout, streams.stderr, streams.terminal)
            $0.stdinOnce = stdinOnce
        }
        return try await call(.prepareAttach, request, timeout: .seconds(10)).url
    }

    public func portForward(to endpoint: PortEndpoint, of sandbox: String, ports: [Int32]) async throws -> String {
        switch endpoint {
        case .agent: break
        case .namespace: try await client().require(StreamContract.network, "ports of this pod cannot be forwarded")
        case .loopback, .nodeLoopback: try await client().require(StreamContract.loopback, "ports of this pod cannot be forwarded")
        }
        let request = StreamPreparePortForwardRequest.with {
            switch endpoint {
            case .agent(let address): $0.guest = StreamGuest(address, sandbox: sandbox)
            case .namespace(let path, let address):
                $0.network = StreamPodNetwork(namespace: path, address: address, sandbox: sandbox)
            case .loopback(let path, let address, let sockets):
                $0.network = StreamPodNetwork(namespace: path, address: address, sandbox: sandbox)
                ($0.network.loopback, $0.network.sockets) = (true, sockets)
            case .nodeLoopback:
                $0.network = StreamPodNetwork(namespace: "", address: "", sandbox: sandbox)
                $0.network.loopback = true
            }
            $0.ports = ports.map { UInt32(clamping: $0) }
        }
        return try await call(.preparePortForward, request, timeout: .seconds(10)).url
    }
}

extension StreamGuest {
    public init(_ address: VsockAddress, sandbox: String) {
        self.init()
        sandboxID = sandbox
        switch address {
        case .unixProxy(let path): proxy = path
        case .kernel(let cid): contextID = cid
        }
    }

    /// - Throws: `invalidArgument` without one.
    public func vsockAddress() throws -> VsockAddress {
        switch address {
        case .proxy(let path): return .unixProxy(path: path)
        case .contextID(let cid): return .kernel(cid: cid)
        case nil: throw SwiftletError(.invalidArgument, "the guest's address is missing")
        }
    }
}

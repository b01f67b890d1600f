import Concurrency
import Errors
import Glibc
import Linux
import Logging
import Runtime
import SwiftProtobuf
import Synchronization

/// swiftlet-streamd as swiftletd sees it: connected to, and started when nobody answers. It belongs to the node, not to this process,
/// and lives on when this process is killed.
public final class StreamDaemon: Sendable {
    public struct Configuration: Sendable {
        /// Of the program.
        public var binary: String
        public var controlSocket: String
        /// Where sessions are served: "127.0.0.1:10351".
        public var address: String
        /// The file that gets the program's output.
        public var log: String

        public init(binary: String, controlSocket: String, address: String, log: String) {
            (self.binary, self.controlSocket, self.address, self.log) = (binary, controlSocket, address, log)
        }
    }

    private let configuration: Configuration
    private let logger: Logger
    /// That this process has started, until it is known to have ended.
    private let started = Mutex<ProcessIdentity?>(nil)
    private let current = Mutex<StreamControlClient?>(nil)
    private let connections = SingleFlight<NoKey, StreamControlClient>(whenAbandoned: .finish)

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
        connections.cancel()
        current.withLock { $0 }?.close()
    }

    private var live: StreamControlClient? { current.withLock { $0 }.flatMap { $0.isClosed ? nil : $0 } }

    private func connect() async throws -> StreamControlClient {
        if let client = live { return client }
        let client: StreamControlClient
        do {
            client = try await running()
        } catch {
            try await start()
            client = try await StreamControlClient.connect(to: configuration.controlSocket)
        }
        current.withLock { $0 = client }
        logger.info(
            "connected to swiftlet-streamd",
            metadata: ["pid": "\(client.info.pid)", "version": "\(client.info.version)", "url": "\(client.info.url)"])
        return client
    }

    /// The one that runs already; one that serves elsewhere than it should by now is ended.
    private func running() async throws -> StreamControlClient {
        let client = try await StreamControlClient.connect(to: configuration.controlSocket)
        guard client.info.address != configuration.address else { return client }
        client.close()
        logger.warning(
            "swiftlet-streamd serves another address than configured; it is ended with its sessions",
            metadata: ["address": "\(client.info.address)", "configured": "\(configuration.address)"])
        if let process = ProcessIdentity.of(client.info.pid) { try await OwnThread.run { try Self.end(process) } }
        throw SwiftletError(.unavailable, "swiftlet-streamd was ended")
    }

    private static func end(_ process: ProcessIdentity) throws {
        _ = try? process.signal(SIGTERM)
        if process.waitForExit(.seconds(3)) { return }
        process.kill()
        guard process.waitForExit(.seconds(5)) else {
            throw SwiftletError(.deadlineExceeded, "swiftlet-streamd \(process.pid) does not end on SIGKILL")
        }
    }

    private func start() async throws {
        let configuration = configuration
        let arguments = ["--control-socket", configuration.controlSocket, "--address", configuration.address]
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

    /// Calls a method that can be repeated; a connection that is lost meanwhile is made anew, once.
    private func call<Request: Message, Response: Message>(
        _ method: StreamMethod<Request, Response>, _ request: Request, timeout: Duration
    ) async throws -> Response {
        do {
            return try await client().call(method, request, timeout: timeout)
        } catch let error as SwiftletError where error.code == .unavailable {
            return try await client().call(method, request, timeout: timeout)
        }
    }
}

extension StreamDaemon: ContainerSessions {
    public func exec(
        _ command: [String], in endpoint: OutputEndpoint, of sandbox: String, _ streams: SessionStreams
    ) async throws -> String {
        let request = StreamPrepareExecRequest.with {
            switch endpoint {
            case .agent(let address, let container):
                $0.guest = StreamGuest(address, sandbox: sandbox)
                $0.containerID = container
            }
            $0.command = command
            ($0.stdin, $0.stdout, $0.stderr, $0.terminal) = (streams.stdin, streams.stdout, streams.stderr, streams.terminal)
        }
        return try await call(.prepareExec, request, timeout: .seconds(10)).url
    }

    public func portForward(to guest: VsockAddress, of sandbox: String, ports: [Int32]) async throws -> String {
        let request = StreamPreparePortForwardRequest.with {
            $0.guest = StreamGuest(guest, sandbox: sandbox)
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

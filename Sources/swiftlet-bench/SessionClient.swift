import CRI
import CRIClient
import Errors
import NIOCore
import StreamClient
import StreamFrames
import Synchronization

/// What carries an exec.
enum SessionProtocol: Sendable, CaseIterable {
    case spdy
    case webSocket
}

/// Sessions of one runtime, by Swiftlet's own client: what both runtimes are measured with.
struct SessionClient: Sendable {
    private static let commandVersion = "v4.channel.k8s.io"
    private static let portForwardVersion = "portforward.k8s.io"

    let cri: CRIConnection
    private let connector: SessionConnector

    init(cri: CRIConnection) throws {
        self.cri = cri
        connector = try SessionConnector()
    }

    // MARK: Exec

    /// Runs a command without stdin to its end.
    ///
    /// - Parameter opened: called at the first byte of its output.
    /// - Returns: what it has written, and the time from the call of Exec to its first byte.
    /// - Throws: also for an exit code that is not 0.
    func exec(
        _ command: [String], in container: String, by version: SessionProtocol, opened: @escaping @Sendable () -> Void = {}
    ) async throws -> (count: TransferCount, toFirstByte: Duration) {
        let start = ContinuousClock.now
        let request = CRIExecRequest.with { ($0.containerID, $0.cmd, $0.stdout) = (container, command, true) }
        let url = try await cri.call(RuntimeRPC.exec, request).url
        let count =
            switch version {
            case .spdy: try await runBySPDY(url, opened)
            case .webSocket: try await runByWebSocket(url, opened)
            }
        guard let first = count.first else { throw SwiftletError(.dataLoss, "\(command.first ?? "") wrote nothing") }
        return (count, first - start)
    }

    private func runBySPDY(_ url: String, _ opened: @Sendable () -> Void) async throws -> TransferCount {
        let session = try await SPDYSession.connect(to: url, versions: [Self.commandVersion], by: connector)
        defer { session.end() }
        let error = try await session.open([("streamType", "error")])
        let output = try await session.open([("streamType", "stdout")])
        var count = TransferCount()
        while let part = try await Self.next(of: output) {
            count.add(part.readableBytes)
            if count.bytes == part.readableBytes { opened() }
        }
        var status = ""
        while let part = try await Self.next(of: error) { status += String(buffer: part) }
        guard status.contains(#""status":"Success""#) else { throw SwiftletError(.unknown, "exec ended with: \(status)") }
        return count
    }

    /// containerd's server, as the kubelet's, resets the streams of a command that has ended: the status says whether all is well.
    private static func next(of stream: ByteStream) async throws -> ByteBuffer? {
        do { return try await stream.read() } catch let error as CancellationError { throw error } catch { return nil }
    }

    private func runByWebSocket(_ url: String, _ opened: @escaping @Sendable () -> Void) async throws -> TransferCount {
        let received = Received()
        let code = try await connector.command(at: url).run(
            output: { _, part in
                if received.add(part.readableBytes) { opened() }
            }, input: { _ in })
        guard code == 0 else { throw SwiftletError(.unknown, "exec ended with \(code)") }
        return received.count
    }

    // MARK: Attach

    /// Sends a line to a container and takes what it writes until it ends.
    func attach(to container: String) async throws -> TransferCount {
        let request = CRIAttachRequest.with { ($0.containerID, $0.stdin, $0.stdout) = (container, true, true) }
        let url = try await cri.call(RuntimeRPC.attach, request).url
        let received = Received()
        do {
            _ = try await connector.command(at: url).run(
                output: { _, part in _ = received.add(part.readableBytes) }, input: { try await $0.write(ByteBuffer(string: "go\n")) })
        } catch let error as SwiftletError where error.code == .unavailable && received.count.bytes > 0 {
            // How the container has ended is no business of an attach.
        }
        return received.count
    }

    // MARK: Port-forward

    /// Opens a session to a pod, which ends with the body.
    func portForward<Value: Sendable>(
        to pod: String, _ body: (PortConnections) async throws -> Value
    ) async throws -> Value {
        let url = try await cri.call(RuntimeRPC.portForward, .with { $0.podSandboxID = pod }).url
        let session = try await SPDYSession.connect(to: url, versions: [Self.portForwardVersion], by: connector)
        defer { session.end() }
        return try await body(PortConnections(session: session))
    }
}

/// Connections of one port-forward session.
struct PortConnections: Sendable {
    let session: SPDYSession

    /// - Parameter request: unique in the session.
    func connect(to port: UInt16, request: Int) async throws -> ByteStream {
        func headers(_ type: String) -> [(name: String, value: String)] {
            [("streamType", type), ("port", "\(port)"), ("requestID", "\(request)")]
        }
        try await session.open(headers("error")).end()
        return try await session.open(headers("data"))
    }

    /// Takes all that a server sends on its own.
    func receive(from port: UInt16, request: Int, bytes: Int) async throws -> TransferCount {
        let stream = try await connect(to: port, request: request)
        defer { stream.reset() }
        var count = TransferCount()
        while count.bytes < bytes, let part = try await stream.read() { count.add(part.readableBytes) }
        return count
    }

    /// Sends a line and waits until it has come back.
    func echo(on stream: ByteStream) async throws {
        let line = ByteBuffer(repeating: UInt8(ascii: "."), count: 64)
        try await stream.write(line)
        var missing = line.readableBytes
        while missing > 0 {
            guard let part = try await stream.read() else { throw SwiftletError(.unavailable, "the connection has ended") }
            missing -= part.readableBytes
        }
    }
}

/// A transfer that another task counts.
private final class Received: Sendable {
    private let state = Mutex(TransferCount())

    var count: TransferCount { state.withLock { $0 } }

    /// - Returns: whether these were the first bytes.
    func add(_ bytes: Int) -> Bool {
        state.withLock { count in
            count.add(bytes)
            return count.bytes == bytes
        }
    }
}

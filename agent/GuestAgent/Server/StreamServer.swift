import AgentProtocol
import Errors
import Linux
import Synchronization

/// What a one-time token gives access to.
enum StreamGrant: Sendable {
    case input(GuestProcess)
    /// - stdout, stderr: bytes that the host already has.
    case output(GuestProcess, stdout: UInt64, stderr: UInt64)
    case port(PortConnection)

    fileprivate var process: GuestProcess? {
        switch self {
        case .input(let process), .output(let process, _, _): process
        case .port: nil
        }
    }

    /// Whether both are for the input, or both for the output, of one process.
    fileprivate func replaces(_ other: StreamGrant) -> Bool {
        switch (self, other) {
        case (.input(let process), .input(let another)): process === another
        case (.output(let process, _, _), .output(let another, _, _)): process === another
        default: false
        }
    }
}

/// Connects the host's stream connections, by the tokens they begin with, to processes.
final class StreamServer: Sendable {
    private struct State {
        var grants: [[UInt8]: StreamGrant] = [:]
        /// Connections that have not shown a token yet.
        var newcomers: [ObjectIdentifier: StreamNewcomer] = [:]
    }

    private static let newcomerLimit = 256

    private let loop: EventLoop
    private let state = Mutex(State())

    init(loop: EventLoop) { self.loop = loop }

    /// Admits one connection with this token. An unused token for the same stream is void from now on.
    ///
    /// - Throws: `.invalidArgument` for a token of another length; `.alreadyExists` for one that is in use.
    ///
    /// - Parameter lifetime: how long the token may stay unused; nil: as long as the process is there.
    func grant(_ token: [UInt8], _ grant: StreamGrant, for lifetime: Duration? = nil) throws(SwiftletError) {
        guard token.count == AgentContract.tokenLength else {
            throw SwiftletError(.invalidArgument, "stream token of \(token.count) bytes, not \(AgentContract.tokenLength)")
        }
        try state.withLock { state throws(SwiftletError) in
            guard state.grants[token] == nil else { throw SwiftletError(.alreadyExists, "the stream token is already in use") }
            let older = state.grants.first { grant.replaces($0.value) }
            if let older { state.grants[older.key] = nil }
            state.grants[token] = grant
        }
        if let lifetime { loop.schedule(at: .now + lifetime) { [weak self] in _ = self?.redeem(token) } }
    }

    /// Voids the tokens of a deleted process.
    func revoke(_ process: GuestProcess) {
        state.withLock { state in state.grants = state.grants.filter { $0.value.process !== process } }
    }

    /// Takes over a connected socket.
    func accept(_ descriptor: Int32) {
        let newcomer = StreamNewcomer(channel: ByteChannel(descriptor: descriptor, loop: loop), server: self)
        let admitted = state.withLock { state in
            guard state.newcomers.count < Self.newcomerLimit else { return false }
            state.newcomers[ObjectIdentifier(newcomer)] = newcomer
            return true
        }
        guard admitted else { return }
        do { try newcomer.open() } catch { forget(newcomer) }
    }

    fileprivate func forget(_ newcomer: StreamNewcomer) {
        state.withLock { _ = $0.newcomers.removeValue(forKey: ObjectIdentifier(newcomer)) }
    }

    fileprivate func redeem(_ token: [UInt8]) -> StreamGrant? {
        state.withLock { $0.grants.removeValue(forKey: token) }
    }
}

/// A connection until its token has come.
private final class StreamNewcomer: ByteChannelOwner {
    private let channel: ByteChannel
    private let server: StreamServer
    private let token = Mutex<[UInt8]>([])

    init(channel: ByteChannel, server: StreamServer) {
        self.channel = channel
        self.server = server
    }

    func open() throws(SwiftletError) {
        // No further than the token: what follows belongs to the process.
        channel.limitReads(to: AgentContract.tokenLength)
        try channel.open(owner: self)
    }

    func channel(_ channel: ByteChannel, received bytes: UnsafeRawBufferPointer) {
        let token = token.withLock { token in
            token.append(contentsOf: bytes)
            return token
        }
        guard token.count == AgentContract.tokenLength else { return channel.limitReads(to: AgentContract.tokenLength - token.count) }
        channel.setReading(false)
        server.forget(self)
        guard let grant = server.redeem(token) else { return refuse() }
        channel.limitReads(to: nil)
        do {
            switch grant {
            case .input(let process): try process.attachInput(channel)
            case .output(let process, let stdout, let stderr): try process.output.attach(channel, stdout: stdout, stderr: stderr)
            case .port(let connection): try connection.carry(over: channel)
            }
        } catch {
            refuse()
        }
    }

    private func refuse() {
        channel.write([AgentContract.streamRefused])
        channel.close()
    }

    func channelReceivedEnd(_ channel: ByteChannel) { channel.close() }

    func channelDrained(_ channel: ByteChannel) {}

    func channelClosed(_ channel: ByteChannel, error: SwiftletError?) { server.forget(self) }
}

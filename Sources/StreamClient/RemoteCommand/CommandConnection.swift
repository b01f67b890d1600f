import Errors
import NIOCore

/// An exec or attach, by remotecommand's protocol over a WebSocket.
public struct CommandConnection: Sendable {
    /// `v5.channel.k8s.io`, or `v4.channel.k8s.io`, in which the end of stdin cannot be said.
    public enum Version: String, Sendable, CaseIterable {
        case v5 = "v5.channel.k8s.io"
        case v4 = "v4.channel.k8s.io"
    }

    public enum Output: UInt8, Sendable {
        case stdout = 1
        case stderr = 2
    }

    /// Numbers of the other channels, in the first byte of a message.
    enum Channel {
        static let stdin: UInt8 = 0
        static let error: UInt8 = 3
        static let resize: UInt8 = 4
        /// Its message's second byte is the channel that ends (v5).
        static let end: UInt8 = 255
    }

    /// How long a server that has told the exit code may take to close.
    private static let closingPatience = TimeAmount.seconds(5)

    public let version: Version
    private let messages: NIOAsyncChannel<ByteBuffer, ByteBuffer>

    init(_ connection: WebSocketConnection) throws {
        guard let version = Version(rawValue: connection.version) else {
            throw SwiftletError(.failedPrecondition, "the server has chosen \(connection.version)")
        }
        (self.version, messages) = (version, connection.messages)
    }

    private enum Part: Sendable {
        case input
        case exit(Int32)
    }

    /// Carries the session to its end. Asked once; the connection is closed when it returns.
    ///
    /// - Parameters:
    ///   - output: takes what the command writes, in its order; the server is held up while it does not return.
    ///   - input: says what the command reads. It may return early, and is cancelled when the command has ended.
    /// - Returns: the exit code.
    /// - Throws: what the server says it failed with; `.unavailable` where the connection has ended without an exit code; what `output` and
    ///   `input` throw, which end the session.
    public func run(
        output: @escaping @Sendable (Output, ByteBuffer) async throws -> Void,
        input: @escaping @Sendable (CommandInput) async throws -> Void
    ) async throws -> Int32 {
        try await messages.executeThenClose { inbound, outbound in
            try await withThrowingTaskGroup(of: Part.self) { group in
                group.addTask {
                    do {
                        try await input(CommandInput(outbound, version))
                    } catch is CommandInput.Closed {
                        // What has become of the command is read on the other side.
                    }
                    return .input
                }
                group.addTask { .exit(try await self.read(inbound, output)) }
                defer { group.cancelAll() }
                while let part = try await group.next() {
                    if case .exit(let code) = part { return code }
                }
                throw SwiftletError(.internal, "the session has no end")
            }
        }
    }

    private func read(
        _ inbound: NIOAsyncChannelInboundStream<ByteBuffer>, _ output: @Sendable (Output, ByteBuffer) async throws -> Void
    ) async throws -> Int32 {
        var status = CommandStatus()
        var iterator = inbound.makeAsyncIterator()
        while true {
            let next: ByteBuffer?
            do {
                next = try await iterator.next()
            } catch {
                // How the connection ends does not matter any more when the exit code is there.
                if status.outcome != nil { break }
                throw SwiftletError.wrap(error, "the connection has failed", code: .unavailable)
            }
            guard var message = next else { break }
            // Some servers greet with a message without bytes.
            guard let number = message.readInteger(as: UInt8.self), message.readableBytes > 0 else { continue }
            if let type = Output(rawValue: number) {
                try await output(type, message)
            } else if number == Channel.error, status.outcome == nil {
                status.take(message)
                if status.outcome != nil { limitClosing() }
            }
        }
        try Task.checkCancellation()
        return try status.end().get()
    }

    private func limitClosing() {
        let channel = messages.channel
        let timer = channel.eventLoop.scheduleTask(in: Self.closingPatience) { channel.close(promise: nil) }
        channel.closeFuture.whenComplete { _ in timer.cancel() }
    }
}

/// What a command reads, and the size of its terminal.
public struct CommandInput: Sendable {
    /// The connection takes no more.
    struct Closed: Error {}

    /// Bytes in a message. Servers refuse large ones: swiftlet-streamd those above 1 MiB.
    private static let maximumMessage = 32 << 10

    private let outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>
    private let version: CommandConnection.Version

    init(_ outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>, _ version: CommandConnection.Version) {
        (self.outbound, self.version) = (outbound, version)
    }

    /// Returns when the connection takes more.
    public func write(_ bytes: ByteBuffer) async throws {
        var bytes = bytes
        while let part = bytes.readSlice(length: min(bytes.readableBytes, Self.maximumMessage)), part.readableBytes > 0 {
            try await send(CommandConnection.Channel.stdin, part.readableBytesView)
        }
    }

    /// Says that stdin has ended.
    ///
    /// - Throws: `.unimplemented` before v5.
    public func end() async throws {
        guard version == .v5 else { throw SwiftletError(.unimplemented, "\(version.rawValue) cannot say that stdin has ended") }
        try await send(CommandConnection.Channel.end, [CommandConnection.Channel.stdin])
    }

    public func resize(width: UInt16, height: UInt16) async throws {
        try await send(CommandConnection.Channel.resize, #"{"Width":\#(width),"Height":\#(height)}"#.utf8)
    }

    private func send(_ channel: UInt8, _ bytes: some Collection<UInt8>) async throws {
        var message = ByteBuffer()
        message.reserveCapacity(bytes.count + 1)
        message.writeInteger(channel)
        message.writeBytes(bytes)
        do {
            try await outbound.write(message)
        } catch {
            throw Closed()
        }
    }
}

extension SessionConnector {
    /// Connects to a URL that Exec or Attach has returned.
    ///
    /// - Throws: as ``webSocket(to:versions:)``.
    public func command(at url: String) async throws -> CommandConnection {
        try CommandConnection(try await webSocket(to: url, versions: CommandConnection.Version.allCases.map(\.rawValue)))
    }
}

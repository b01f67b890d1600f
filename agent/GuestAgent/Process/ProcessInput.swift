import AgentProtocol
import CLinux
import Errors
import Glibc
import Linux
import Synchronization

/// Carries the host's bytes to a process's standard input, no faster than the process takes them.
final class ProcessInput: Sendable {
    private struct State {
        /// nil before the process starts.
        var writer: ByteChannel?
        var connection: ByteChannel?
        /// End of file was given, or the process reads no more.
        var ended = false
    }

    /// Bytes that may wait for the process before the connection is left alone.
    private static let writerQueue = 64 << 10

    private let loop: EventLoop
    private let isTerminal: Bool
    private let state = Mutex(State())

    init(loop: EventLoop, isTerminal: Bool) {
        self.loop = loop
        self.isTerminal = isTerminal
    }

    /// Takes over the write end of the process's input: a pipe, or its terminal's master.
    func write(to descriptor: Int32) throws(SwiftletError) {
        let writer = ByteChannel(descriptor: descriptor, loop: loop)
        try writer.open(owner: self, reading: false)
        let ended = state.withLock { state in
            guard !state.ended else { return true }
            state.writer = writer
            state.connection?.setReading(true)
            return false
        }
        if ended { writer.close() }
    }

    /// - Throws: `.failedPrecondition` when the input has ended.
    func check() throws(SwiftletError) {
        guard !state.withLock({ $0.ended }) else { throw SwiftletError(.failedPrecondition, "standard input has ended") }
    }

    /// Takes a new connection's bytes from now on and becomes its owner. An older one is closed. So is this one when the process reads no
    /// more: one that ends at once has ended before the host comes with its token.
    func attach(_ connection: ByteChannel) {
        let older = state.withLock { state in
            guard !state.ended else {
                connection.write([AgentContract.streamAccepted])
                return Optional(connection)
            }
            let older = state.connection
            state.connection = connection
            connection.hand(to: self)
            connection.write([AgentContract.streamAccepted])
            if state.writer != nil { connection.setReading(true) }
            return older
        }
        older?.close()
    }

    /// Closes everything: the process exited or is deleted.
    func close() {
        let (writer, connection) = state.withLock { state in
            defer {
                state.writer = nil
                state.connection = nil
            }
            state.ended = true
            return (state.writer, state.connection)
        }
        writer?.close()
        connection?.close()
    }
}

extension ProcessInput: ByteChannelOwner {
    func channel(_ channel: ByteChannel, received bytes: UnsafeRawBufferPointer) {
        state.withLock { state in
            guard channel === state.connection, let writer = state.writer else { return }
            if writer.write(bytes) > Self.writerQueue { channel.setReading(false) }
        }
    }

    func channelReceivedEnd(_ channel: ByteChannel) {
        // A host that went away has not said that the input ends: its successor may open the stream again.
        let meansEnd = channel.peerReceives
        state.withLock { state in
            guard channel === state.connection else { return }
            state.connection = nil
            guard meansEnd, let writer = state.writer else { return }
            state.ended = true
            if isTerminal {
                if let byte = writer.withDescriptor(Self.endOfFileCharacter) ?? nil { writer.write([byte]) }
            } else {
                writer.finishWriting()
            }
        }
        channel.close()
    }

    func channelDrained(_ channel: ByteChannel) {
        state.withLock { state in
            if channel === state.writer { state.connection?.setReading(true) }
        }
    }

    func channelClosed(_ channel: ByteChannel, error: SwiftletError?) {
        let connection = state.withLock { state -> ByteChannel? in
            if channel === state.connection { state.connection = nil }
            guard channel === state.writer else { return nil }
            state.ended = true
            defer { state.connection = nil }
            return state.connection
        }
        connection?.close()
    }

    /// What a terminal in canonical mode takes as end of file; nil in any other mode, which has none.
    private static func endOfFileCharacter(_ terminal: Int32) -> UInt8? {
        var settings = termios()
        guard tcgetattr(terminal, &settings) == 0, settings.c_lflag & tcflag_t(ICANON) != 0 else { return nil }
        return withUnsafeBytes(of: settings.c_cc) { $0[Int(VEOF)] }
    }
}

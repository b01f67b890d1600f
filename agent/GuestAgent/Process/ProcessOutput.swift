import AgentProtocol
import Errors
import Glibc
import Linux
import Synchronization

/// Carries a process's output from its pipes or terminal through an ``OutputBuffer`` to the host's connection.
final class ProcessOutput: Sendable {
    private struct State {
        var buffer = OutputBuffer()
        var readers: [OutputSource: ByteChannel] = [:]
        var connection: ByteChannel?
        var acknowledgements = ByteQueue()
        /// Whether the pipes are read; off while the buffer is full.
        var reading = true
        /// Totals at which sources end although others hold them open.
        var ends: [OutputSource: UInt64] = [:]
        /// The process is deleted: nothing is taken over any more.
        var closed = false
        /// Who is told when nobody takes the output over.
        var abandonment: (patience: Duration, told: @Sendable () -> Void)?
        /// Connections that have come and gone.
        var connections = 0
    }

    /// Bytes that may wait in a connection's queue before frames stay in the buffer.
    private static let connectionQueue = 128 << 10

    /// Bytes read at once. With its header a frame fits into one packet of Linux's vsock (64 KiB); 8 bytes more would be another packet.
    private static let readLimit = OutputFrame.maximumPayload - OutputFrame.headerLength

    /// How long what children write behind the end of a process is still taken.
    private static let grace = Duration.milliseconds(200)

    private let loop: EventLoop
    private let state = Mutex(State())

    init(loop: EventLoop) { self.loop = loop }

    /// Begins to read. A source without a descriptor ends at once. Takes the descriptors over.
    func read(stdout: Int32, stderr: Int32?) throws(SwiftletError) {
        try read(.stdout, stdout)
        if let stderr { try read(.stderr, stderr) } else { end(.stderr) }
    }

    private func read(_ source: OutputSource, _ descriptor: Int32) throws(SwiftletError) {
        let reader = ByteChannel(descriptor: descriptor, loop: loop)
        reader.limitReads(to: Self.readLimit)
        // A process that writes line by line would have the agent run for each, and wait for it.
        reader.gather(from: 1)
        let reading = state.withLock { state -> Bool? in
            guard !state.closed else { return nil }
            state.readers[source] = reader
            return state.reading
        }
        guard let reading else { return reader.close() }
        try reader.open(owner: self, reading: reading)
    }

    /// Gives the output to a new connection, whose owner this becomes, from what its host already has. An older one is
    /// closed.
    ///
    /// - Throws: `.outOfRange` for offsets that are gone; `.notFound` when the process is deleted.
    func attach(_ connection: ByteChannel, stdout: UInt64, stderr: UInt64) throws(SwiftletError) {
        let older = try state.withLock { state throws(SwiftletError) in
            guard !state.closed else { throw SwiftletError(.notFound, "output stream: the process was deleted") }
            try state.buffer.restart(stdout: stdout, stderr: stderr)
            let older = state.connection
            state.connection = connection
            state.connections += 1
            state.acknowledgements = ByteQueue()
            connection.hand(to: self)
            // What is acknowledged frees room, which is not urgent.
            connection.gather(from: 1)
            connection.write([AgentContract.streamAccepted])
            connection.setReading(true)
            pump(&state)
            updateReading(&state)
            return older
        }
        older?.close()
    }

    /// - Throws: `.outOfRange` for offsets from which output cannot go on.
    func check(stdout: UInt64, stderr: UInt64) throws(SwiftletError) {
        try state.withLock { state throws(SwiftletError) in try state.buffer.check(stdout: stdout, stderr: stderr) }
    }

    func acknowledged(_ source: OutputSource) -> UInt64 { state.withLock { $0.buffer.acknowledged(source) } }

    /// Runs `body` with the terminal's master; nil once it is closed.
    func withTerminal<Result: Sendable>(_ body: (Int32) -> Result) -> Result? {
        state.withLock { $0.readers[.stdout] }?.withDescriptor(body)
    }

    /// Closes everything, for a process that is deleted.
    func close() {
        let channels = state.withLock { state in
            defer {
                state.readers = [:]
                state.connection = nil
            }
            state.closed = true
            return Array(state.readers.values) + (state.connection.map { [$0] } ?? [])
        }
        for channel in channels { channel.close() }
    }

    /// Tells, once, when for so long nobody is connected to take what is left, from now on and from each lost connection on.
    func watchAbandonment(after patience: Duration, _ told: @escaping @Sendable () -> Void) {
        state.withLock { $0.abandonment = (patience, told) }
        expectConnection()
    }

    private func expectConnection() {
        let (abandonment, connections) = state.withLock { ($0.abandonment, $0.connections) }
        guard let abandonment else { return }
        loop.schedule(at: .now + abandonment.patience) { [weak self] in
            guard let self else { return }
            let told = state.withLock { state -> (@Sendable () -> Void)? in
                guard state.connection == nil, state.connections == connections, !state.closed, !state.buffer.isDone else { return nil }
                defer { state.abandonment = nil }
                return state.abandonment?.told
            }
            told?()
        }
    }

    /// The process has ended: what it has written is read to the end, and children that hold its output open are not waited for.
    func processEnded() {
        guard !state.withLock({ $0.readers.isEmpty }) else { return }
        loop.schedule(at: .now + Self.grace) { [weak self] in self?.endWithWhatIsThere() }
    }

    /// On the loop's thread, which reads the sources: no byte is on its way from them to the buffer.
    private func endWithWhatIsThere() {
        for (source, reader) in state.withLock({ $0.readers }) {
            let waiting = reader.withDescriptor { descriptor in
                var count: Int32 = 0
                return ioctl(descriptor, UInt(FIONREAD), &count) == 0 ? UInt64(max(0, count)) : 0
            }
            let isThere = state.withLock { state in
                let end = state.buffer.received(source) + (waiting ?? 0)
                state.ends[source] = end
                return state.buffer.received(source) >= end
            }
            if isThere { reader.close() }
        }
    }

    private func end(_ source: OutputSource) {
        state.withLock { state in
            state.buffer.end(source)
            pump(&state)
        }
    }

    private func pump(_ state: inout State) {
        guard let connection = state.connection else { return }
        while connection.queued < Self.connectionQueue, let frame = state.buffer.nextFrame() {
            connection.write(frame.header, frame.payload)
        }
        // Nothing was said by a process without output, so there is nothing to acknowledge either.
        if state.buffer.isDone { connection.finishWriting() }
    }

    private func updateReading(_ state: inout State) {
        let reading = state.buffer.room >= OutputFrame.maximumPayload
        guard reading != state.reading else { return }
        state.reading = reading
        for reader in state.readers.values { reader.setReading(reading) }
    }
}

extension ProcessOutput: ByteChannelOwner {
    func channel(_ channel: ByteChannel, received bytes: UnsafeRawBufferPointer) {
        let closes = state.withLock { state -> Bool in
            if channel === state.connection { return !acknowledge(bytes, &state) }
            guard let source = state.readers.first(where: { $0.value === channel })?.key else { return false }
            state.buffer.append(source, bytes)
            pump(&state)
            updateReading(&state)
            return state.ends[source].map { state.buffer.received(source) >= $0 } ?? false
        }
        if closes { channel.close() }
    }

    /// False when the host breaks the protocol.
    private func acknowledge(_ bytes: UnsafeRawBufferPointer, _ state: inout State) -> Bool {
        state.acknowledgements.append(bytes)
        while let acknowledgement = OutputAcknowledgement(from: &state.acknowledgements) {
            do { try state.buffer.acknowledge(acknowledgement) } catch { return false }
        }
        pump(&state)
        updateReading(&state)
        return true
    }

    func channelReceivedEnd(_ channel: ByteChannel) {
        let source = state.withLock { state in
            let source = state.readers.first { $0.value === channel }?.key
            if let source { state.readers[source] = nil }
            return source
        }
        channel.close()
        if let source { end(source) }
    }

    func channelDrained(_ channel: ByteChannel) {
        state.withLock { state in
            if channel === state.connection { pump(&state) }
        }
    }

    func channelClosed(_ channel: ByteChannel, error: SwiftletError?) {
        let (source, wasConnection) = state.withLock { state -> (OutputSource?, Bool) in
            if channel === state.connection {
                state.connection = nil
                return (nil, true)
            }
            let source = state.readers.first { $0.value === channel }?.key
            if let source { state.readers[source] = nil }
            return (source, false)
        }
        if let source { end(source) }
        if wasConnection { expectConnection() }
    }
}

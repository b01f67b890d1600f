import Errors
import Glibc
import Synchronization

/// What a ``ByteChannel`` reports to its owner. All of it comes on the event loop's thread, never with the channel locked.
package protocol ByteChannelOwner: AnyObject, Sendable {
    /// Bytes came; they are only valid during the call.
    func channel(_ channel: ByteChannel, received bytes: UnsafeRawBufferPointer)
    /// The peer sends no more; writing may still work.
    func channelReceivedEnd(_ channel: ByteChannel)
    /// All queued bytes were written, after some had to wait.
    func channelDrained(_ channel: ByteChannel)
    /// The descriptor is closed. Comes exactly once, whoever closed it; `error` is nil after ``ByteChannel/close()``.
    func channelClosed(_ channel: ByteChannel, error: SwiftletError?)
}

/// A socket, pipe or terminal on an ``EventLoop``: non-blocking reads, and writes that wait in a queue.
///
/// The channel owns its descriptor, and lives until it is closed.
package final class ByteChannel: Sendable {
    private struct State {
        var watch: EventLoop.Watch?
        var interest: EventLoop.Readiness = []
        var output = OutputQueue()
        var wantsReading = false
        var readLimit: Int?
        var readEnded = false
        var finishing = false
        var closed = false
        weak var owner: (any ByteChannelOwner)?

        var wantedInterest: EventLoop.Readiness {
            var interest: EventLoop.Readiness = []
            if wantsReading && !readEnded { interest.insert(.readable) }
            if !output.isEmpty { interest.insert(.writable) }
            return interest
        }
    }

    private let descriptor: Int32
    private let isSocket: Bool
    private let loop: EventLoop
    private let mark: CrashMark?
    private let state = Mutex(State())

    /// Takes over `descriptor` and makes it non-blocking. Nothing is read before ``open(owner:reading:)``.
    ///
    /// - Parameter mark: of the tenant whose data is received.
    package init(descriptor: Int32, loop: EventLoop, mark: CrashMark? = nil) {
        self.descriptor = descriptor
        self.loop = loop
        self.mark = mark
        var info = stat()
        isSocket = fstat(descriptor, &info) == 0 && info.st_mode & S_IFMT == S_IFSOCK
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    }

    deinit {
        // Only a channel that was never opened gets here without having been closed.
        if state.withLock({ !$0.closed }) { Glibc.close(descriptor) }
    }

    /// Begins to report to `owner`, which is held weakly.
    ///
    /// - Throws: the errno of epoll_ctl; the channel is closed then and the owner hears nothing.
    package func open(owner: any ByteChannelOwner, reading: Bool = true) throws(SwiftletError) {
        let watch: EventLoop.Watch
        do {
            watch = try loop.watch(descriptor, []) { self.ready($0) }
        } catch {
            close()
            throw error
        }
        state.withLock { state in
            state.watch = watch
            state.owner = owner
            state.wantsReading = reading
            updateInterest(&state)
        }
    }

    /// Bytes that wait to be written.
    package var queued: Int { state.withLock { $0.output.count } }

    /// Writes now what the kernel takes and queues the rest. Ignored once the channel is closed or finishing.
    ///
    /// - Returns: bytes that wait in the queue; the caller bounds them with ``ByteChannelOwner/channelDrained(_:)``.
    @discardableResult
    package func write(_ bytes: [UInt8]) -> Int {
        let (waiting, failure) = state.withLock { state -> (Int, SwiftletError?) in
            guard !state.closed, !state.finishing else { return (0, nil) }
            state.output.append(bytes)
            let failure = flush(&state)
            return (state.output.count, failure)
        }
        if let failure { close(failure) }
        return waiting
    }

    /// Whether bytes are read. Off at first only if ``open(owner:reading:)`` said so.
    package func setReading(_ reading: Bool) {
        state.withLock { state in
            state.wantsReading = reading
            updateInterest(&state)
        }
    }

    /// Reads at most so many bytes at once, so that what follows them is left for the next owner. nil lifts the limit.
    package func limitReads(to limit: Int?) { state.withLock { $0.readLimit = limit } }

    /// Reports to another owner from now on.
    package func hand(to owner: any ByteChannelOwner) { state.withLock { $0.owner = owner } }

    /// Sends end of file after the queue: half-closes a socket, closes anything else.
    package func finishWriting() {
        let done = state.withLock { state in
            state.finishing = true
            return state.output.isEmpty && !state.closed
        }
        if done { finishNow() }
    }

    /// Whether the peer can still receive. A peer that only half-closed can; one that closed or died cannot.
    package var peerReceives: Bool {
        // Sending nothing sends nothing, but fails with EPIPE where a byte would.
        state.withLock { !$0.closed && (!isSocket || send(descriptor, "", 0, Int32(MSG_NOSIGNAL)) == 0 || errno == EAGAIN) }
    }

    /// Runs `body` with the descriptor; nil once it is closed.
    package func withDescriptor<Result: Sendable>(_ body: (Int32) -> Result) -> Result? {
        state.withLock { $0.closed ? nil : body(descriptor) }
    }

    /// Closes at once and drops what is queued. Idempotent.
    package func close() { close(nil) }

    private func close(_ error: SwiftletError?) {
        let owner = state.withLock { state -> (any ByteChannelOwner)?? in
            guard !state.closed else { return nil }
            state.closed = true
            state.output = OutputQueue()
            if let watch = state.watch { loop.unwatch(watch, descriptor: descriptor) }
            Glibc.close(descriptor)
            return .some(state.owner)
        }
        guard let owner else { return }
        if let owner { loop.execute { owner.channelClosed(self, error: error) } }
    }

    private func ready(_ readiness: EventLoop.Readiness) {
        if readiness.contains(.writable) { becameWritable() }
        if readiness.contains(.readable) { becameReadable() }
    }

    private func becameWritable() {
        let (failure, drained, finish, owner) = state.withLock { state -> (SwiftletError?, Bool, Bool, (any ByteChannelOwner)?) in
            guard !state.closed, !state.output.isEmpty else { return (nil, false, false, nil) }
            let failure = flush(&state)
            let drained = failure == nil && state.output.isEmpty
            return (failure, drained, drained && state.finishing, state.owner)
        }
        if let failure { close(failure) }
        if finish { finishNow() }
        if drained { owner?.channelDrained(self) }
    }

    private func becameReadable() {
        let buffer = loop.scratch
        let (count, number, owner) = state.withLock { state -> (Int, Int32, (any ByteChannelOwner)?) in
            guard !state.closed, state.wantsReading, !state.readEnded else { return (-1, EAGAIN, nil) }
            let count = read(descriptor, buffer.baseAddress, min(buffer.count, state.readLimit ?? buffer.count))
            let number = count < 0 ? errno : 0
            // A terminal's master reads EIO when the last slave is closed.
            if count == 0 || (count < 0 && number == EIO && !isSocket) {
                state.readEnded = true
                updateInterest(&state)
                return (0, 0, state.owner)
            }
            return (count, number, state.owner)
        }
        switch count {
        case 1...:
            let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<count])
            if let mark {
                mark.during { owner?.channel(self, received: bytes) }
            } else {
                owner?.channel(self, received: bytes)
            }
        case 0: owner?.channelReceivedEnd(self)
        default: if number != EAGAIN && number != EINTR { close(.system("reading from the peer", errno: number)) }
        }
    }

    /// Writes until the kernel takes no more.
    private func flush(_ state: inout State) -> SwiftletError? {
        while !state.output.isEmpty {
            let count = state.output.withFront { bytes in
                isSocket
                    ? send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
                    : Glibc.write(descriptor, bytes.baseAddress, bytes.count)
            }
            if count > 0 {
                state.output.drop(count)
            } else if count < 0 && errno == EINTR {
                continue
            } else if count < 0 && errno != EAGAIN {
                return .system("writing to the peer")
            } else {
                break
            }
        }
        updateInterest(&state)
        return nil
    }

    private func finishNow() {
        guard isSocket else { return close(nil) }
        _ = withDescriptor { shutdown($0, Int32(SHUT_WR)) }
    }

    private func updateInterest(_ state: inout State) {
        guard let watch = state.watch, !state.closed else { return }
        let wanted = state.wantedInterest
        loop.change(watch, descriptor: descriptor, from: state.interest, to: wanted)
        state.interest = wanted
    }
}

/// Byte arrays that wait to be written, without copying them together.
struct OutputQueue {
    private var parts: [[UInt8]] = []
    /// Parts before this one are written.
    private var first = 0
    /// Bytes of the first part that are written.
    private var offset = 0
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    mutating func append(_ bytes: [UInt8]) {
        guard !bytes.isEmpty else { return }
        parts.append(bytes)
        count += bytes.count
    }

    func withFront<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        parts[first].withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[offset...])) }
    }

    /// - Precondition: `length` bytes are in the first part.
    mutating func drop(_ length: Int) {
        offset += length
        count -= length
        if offset == parts[first].count {
            parts[first] = []
            first += 1
            offset = 0
        }
        if first == parts.count || first > 64 {
            parts.removeFirst(first)
            first = 0
        }
    }
}

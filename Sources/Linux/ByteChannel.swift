import CLinux
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
        /// The fewest bytes of a read behind which the next one waits for more; nil: none waits.
        var gathering: Int?
        /// When bytes were read last; nil before, and where nobody gathers.
        var lastRead: ContinuousClock.Instant?
        /// Not read, for the moment, so that more comes together.
        var resting = false
        /// The kernel reports bytes only when there are enough for a good read (SO_RCVLOWAT, socket(7)), which only TCP's sockets do.
        var isTCP = false
        /// Runs while it does so.
        var collection: EventLoop.Timer?
        /// Bytes were written since the last read, which may wait for their answer.
        var hasWritten = false
        var readEnded = false
        var finishing = false
        var closed = false
        weak var owner: (any ByteChannelOwner)?

        var wantedInterest: EventLoop.Readiness {
            var interest: EventLoop.Readiness = []
            if wantsReading && !readEnded && !resting { interest.insert(.readable) }
            if !output.isEmpty { interest.insert(.writable) }
            return interest
        }
    }

    /// How long a read waits for more, and how soon after the last one a read has to be to wait at all.
    private static let rest = Duration.microseconds(500)
    private static let quickSuccession = Duration.milliseconds(4)
    /// How long after the last read the kernel still waits for enough. An emulated guest's process needs 2 ms for 256 KiB.
    private static let patience = Duration.milliseconds(3)

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
        write { state in
            state.output.append(bytes)
            return flush(&state)
        }
    }

    /// As ``write(_:)``: a header and what follows it, in one packet where the socket makes packets of writes.
    @discardableResult
    package func write(_ header: [UInt8], _ payload: [UInt8]) -> Int {
        write { state in
            state.output.append(header)
            state.output.append(payload)
            return flush(&state)
        }
    }

    /// As ``write(_:)``; copies only what has to wait.
    @discardableResult
    package func write(_ bytes: UnsafeRawBufferPointer) -> Int {
        write { state in
            var rest = bytes[...]
            while state.output.isEmpty, !rest.isEmpty {
                let count = send(UnsafeRawBufferPointer(rebasing: rest), UnsafeRawBufferPointer(start: nil, count: 0))
                if count < 0 && errno == EINTR { continue }
                if count < 0 && errno != EAGAIN { return .system("writing to the peer") }
                if count <= 0 { break }
                rest = rest.dropFirst(count)
            }
            guard !rest.isEmpty else { return nil }
            state.output.append(Array(rest))
            updateInterest(&state)
            return nil
        }
    }

    private func write(_ body: (inout State) -> SwiftletError?) -> Int {
        let (waiting, failure) = state.withLock { state -> (Int, SwiftletError?) in
            guard !state.closed, !state.finishing else { return (0, nil) }
            state.hasWritten = true
            stopCollecting(&state)
            let failure = body(&state)
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

    /// After a read of so many bytes or more the next one waits half a millisecond for more to come, unless there was as much as one read
    /// takes, or the last read was a while ago. What is written bit by bit then costs a turn of the loop for many bits, and the first
    /// bytes are not kept back. Of a TCP connection on which only the peer sends, the kernel gathers: a read follows as soon as three
    /// quarters of what it takes are there, or 3 ms after the last one. nil: no read waits.
    package func gather(from minimum: Int?) {
        var (transport, length) = (Int32(0), socklen_t(MemoryLayout<Int32>.size))
        let isTCP = isSocket && getsockopt(descriptor, SOL_SOCKET, SO_PROTOCOL, &transport, &length) == 0 && transport == IPPROTO_TCP
        state.withLock { state in
            (state.gathering, state.isTCP) = (minimum, isTCP)
            if minimum == nil { stopCollecting(&state) }
        }
    }

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
        state.withLock { !$0.closed && (!isSocket || Glibc.send(descriptor, "", 0, Int32(MSG_NOSIGNAL)) == 0 || errno == EAGAIN) }
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
            guard !state.closed, state.wantsReading, !state.readEnded, !state.resting else { return (-1, EAGAIN, nil) }
            let limit = min(buffer.count, state.readLimit ?? buffer.count)
            let count = read(descriptor, buffer.baseAddress, limit)
            let number = count < 0 ? errno : 0
            defer { updateInterest(&state) }
            // A terminal's master reads EIO when the last slave is closed.
            if count == 0 || (count < 0 && number == EIO && !isSocket) {
                state.readEnded = true
                return (0, 0, state.owner)
            }
            if count > 0 { rest(&state, read: count, of: limit) }
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

    /// Lets the next read wait, where that is wanted and worth it.
    private func rest(_ state: inout State, read count: Int, of limit: Int) {
        guard let gathering = state.gathering else { return }
        let now = ContinuousClock.now
        let isQuick = state.lastRead.map { now - $0 < Self.quickSuccession } ?? false
        let isAnswer = state.hasWritten
        (state.lastRead, state.hasWritten) = (now, false)
        guard isQuick, count >= gathering else { return }
        if state.isTCP, !isAnswer {
            // Once for many reads: a timer for each costs an emulated guest as much as 10 KiB.
            guard state.collection == nil else { return }
            setLowWaterMark(limit - limit / 4)
            state.collection = loop.schedule(at: now + Self.patience) { [weak self] in self?.lookAfterCollection() }
        } else if count < limit {
            state.resting = true
            loop.schedule(at: now + Self.rest) { [weak self] in self?.wake() }
        }
    }

    /// Has the kernel report what did not become enough in time.
    private func lookAfterCollection() {
        state.withLock { state in
            guard !state.closed, state.collection != nil, let lastRead = state.lastRead else { return }
            let due = lastRead + Self.patience
            guard due > .now else { return stopCollecting(&state) }
            state.collection = loop.schedule(at: due) { [weak self] in self?.lookAfterCollection() }
        }
    }

    private func stopCollecting(_ state: inout State) {
        guard let timer = state.collection else { return }
        state.collection = nil
        loop.cancel(timer)
        setLowWaterMark(1)
    }

    private func setLowWaterMark(_ count: Int) {
        var count = Int32(count)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVLOWAT, &count, socklen_t(MemoryLayout<Int32>.size))
    }

    private func wake() {
        state.withLock { $0.resting = false }
        // Not by way of epoll: while bytes keep coming it need not know.
        becameReadable()
        state.withLock { updateInterest(&$0) }
    }

    /// Writes until the kernel takes no more.
    private func flush(_ state: inout State) -> SwiftletError? {
        while !state.output.isEmpty {
            let count = state.output.withFront { send($0, $1) }
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

    /// - Returns: what sendmsg(2) or writev(2) returns.
    private func send(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Int {
        // Neither call changes what it sends.
        var parts = (
            iovec(iov_base: UnsafeMutableRawPointer(mutating: first.baseAddress), iov_len: first.count),
            iovec(iov_base: UnsafeMutableRawPointer(mutating: second.baseAddress), iov_len: second.count)
        )
        return withUnsafeMutableBytes(of: &parts) { bytes in
            let parts = bytes.assumingMemoryBound(to: iovec.self)
            let count = second.isEmpty ? 1 : 2
            guard isSocket else { return writev(descriptor, parts.baseAddress, Int32(count)) }
            return clinux_send_vector(descriptor, parts.baseAddress, count)
        }
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

    /// What is left of the first part, and the second one; empty where there is none.
    func withFront<Result>(_ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Result) -> Result {
        parts[first].withUnsafeBytes { front in
            let front = UnsafeRawBufferPointer(rebasing: front[offset...])
            guard first + 1 < parts.count else { return body(front, UnsafeRawBufferPointer(start: nil, count: 0)) }
            return parts[first + 1].withUnsafeBytes { body(front, $0) }
        }
    }

    /// - Precondition: `length` bytes are there.
    mutating func drop(_ length: Int) {
        offset += length
        count -= length
        while first < parts.count, offset >= parts[first].count {
            offset -= parts[first].count
            parts[first] = []
            first += 1
        }
        if first == parts.count || first > 64 {
            parts.removeFirst(first)
            first = 0
        }
    }
}

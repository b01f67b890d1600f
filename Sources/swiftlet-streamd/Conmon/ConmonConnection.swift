import CLinux
import Errors
import Glibc
import Linux
import Runtime
import Synchronization

/// A client's connection to a conmon: packets of output, each behind the number of its stream, and packets of input.
///
/// conmon writes to all of its clients before it reads on: one that does not read holds the process.
final class ConmonConnection: Sendable {
    typealias Receiver = @Sendable (_ connection: ConmonConnection, _ bytes: [UInt8], _ stream: StandardStream) -> Void

    private static let loop = Result { try EventLoop(name: "conmon") }
    /// Bytes of a packet. conmon reads 32 KiB at once and drops what a packet has beyond; a channel may put two together.
    private static let piece = 8 << 10
    /// Bytes of input that may wait.
    private static let limit = 64 << 10
    /// SOCK_SEQPACKET's first byte: STDOUT_PIPE and STDERR_PIPE of conmon's utils.h.
    private static let streams: [UInt8: StandardStream] = [2: .stdout, 3: .stderr]

    private struct Output {
        var channel: ByteChannel
        /// The same socket once more; nil: it is read by this one.
        var spare: ByteChannel?
        var isRead = true
    }

    /// conmon ends with input that it has not read: that is an error of the socket, which comes once, and before the last output.
    private let output: Mutex<Output>
    /// By a descriptor of its own: a process that has ended takes no input, while its last output is still to be read.
    private let input: ByteChannel
    private let received: Receiver
    /// Nobody waits for room while it is nil.
    private let room = Mutex<Event?>(nil)
    /// Nothing comes any more.
    let ended = Event()

    /// - Parameter received: is called with all that comes, one after the other.
    /// - Throws: `.unavailable` when nobody listens there.
    init(to path: String, received: @escaping Receiver) throws {
        let descriptor = try Self.connect(path)
        let channels: [ByteChannel]
        do {
            let loop = try Self.loop.get()
            channels = try [0, 1, 2].map { _ in
                let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
                guard copy >= 0 else { throw SwiftletError.system("duplicate the connection to \(path)") }
                return ByteChannel(descriptor: copy, loop: loop)
            }
        } catch {
            Glibc.close(descriptor)
            throw error
        }
        Glibc.close(descriptor)
        input = channels[0]
        output = Mutex(Output(channel: channels[1], spare: channels[2]))
        self.received = received
        do {
            try input.open(owner: self, reading: false)
            try channels[1].open(owner: self)
        } catch {
            close()
            throw error
        }
    }

    deinit { close() }

    /// By the socket's directory: the path may be longer than an address can be.
    private static func connect(_ path: String) throws -> Int32 {
        let step = "connect to conmon at \(path)"
        guard let slash = path.lastIndex(of: "/") else { throw SwiftletError(.internal, "\(quoted(path)) is no path of a socket") }
        let directory = Glibc.open(String(path[...slash]), O_PATH | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw SwiftletError(.unavailable, step, cause: SwiftletError.system("open its directory")) }
        defer { Glibc.close(directory) }
        let descriptor = clinux_unix_packet_socket()
        guard descriptor >= 0 else { throw SwiftletError.system(step) }
        guard clinux_unix_connect(descriptor, "/proc/self/fd/\(directory)/\(path[path.index(after: slash)...])") == 0 else {
            let error = SwiftletError.system("connect")
            Glibc.close(descriptor)
            throw SwiftletError(.unavailable, step, cause: error)
        }
        return descriptor
    }

    /// Whether what comes is read. The process waits while it is not.
    func setReading(_ isRead: Bool) {
        let channel = output.withLock { output in
            output.isRead = isRead
            return output.channel
        }
        channel.setReading(isRead)
    }

    /// Returns when conmon has taken all but some 64 KiB. What nobody takes any more is dropped.
    ///
    /// - Throws: `CancellationError`.
    func write(_ bytes: [UInt8]) async throws {
        for start in stride(from: 0, to: bytes.count, by: Self.piece) {
            let piece = Array(bytes[start..<min(start + Self.piece, bytes.count)])
            let event = room.withLock { room -> Event? in
                guard input.write(piece) > Self.limit else { return nil }
                let event = room ?? Event()
                room = event
                return event
            }
            try await event?.wait()
        }
    }

    /// Says that nothing follows.
    func finishInput() { input.finishWriting() }

    /// Bytes that conmon has not taken.
    var waiting: Int { input.queued }

    func close() {
        let channels = output.withLock { output in
            defer { output.spare = nil }
            return [output.channel, output.spare].compactMap(\.self)
        }
        for channel in channels { channel.close() }
        input.close()
    }

    /// - Returns: whether there may be more to read.
    private func readOn(after channel: ByteChannel) -> Bool {
        let (spare, isRead) = output.withLock { output -> (ByteChannel?, Bool) in
            guard output.channel === channel, let spare = output.spare else { return (nil, false) }
            (output.channel, output.spare) = (spare, nil)
            return (spare, output.isRead)
        }
        guard let spare else { return false }
        return (try? spare.open(owner: self, reading: isRead)) != nil
    }

    private func makeRoom() {
        let event = room.withLock { room in
            defer { room = nil }
            return room
        }
        event?.happen()
    }
}

extension ConmonConnection: ByteChannelOwner {
    func channel(_ channel: ByteChannel, received bytes: UnsafeRawBufferPointer) {
        guard let first = bytes.first, let stream = Self.streams[first], bytes.count > 1 else { return }
        received(self, Array(bytes.dropFirst()), stream)
    }

    func channelReceivedEnd(_ channel: ByteChannel) { close() }

    func channelDrained(_ channel: ByteChannel) { makeRoom() }

    func channelClosed(_ channel: ByteChannel, error: SwiftletError?) {
        makeRoom()
        guard channel !== input, output.withLock({ $0.channel === channel }) else { return }
        if error == nil || !readOn(after: channel) { ended.happen() }
    }
}

/// The named pipe that takes conmon's orders.
enum ConmonControl {
    /// conmon's bound of either number (ctrl.c).
    private static let largest: UInt16 = 1000
    private static let (attempts, interval) = (50, Duration.milliseconds(10))

    /// Gives the process's terminal a size. One that has just ended has none.
    static func resize(_ path: String, width: UInt16, height: UInt16) async {
        let pipe = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW)
        guard pipe >= 0 else { return }
        defer { Glibc.close(pipe) }
        var status = stat()
        guard fstat(pipe, &status) == 0, status.st_mode & S_IFMT == S_IFIFO else { return }
        // conmon mixes up orders that it reads in parts.
        for _ in 0..<attempts {
            var waiting: Int32 = 0
            guard ioctl(pipe, UInt(FIONREAD), &waiting) == 0 else { return }
            guard waiting > 0 else { break }
            do { try await Task.sleep(for: interval) } catch { return }
        }
        // WIN_RESIZE_EVENT
        let order = Array("1 \(min(height, largest)) \(min(width, largest))\n".utf8)
        _ = Glibc.write(pipe, order, order.count)
    }
}

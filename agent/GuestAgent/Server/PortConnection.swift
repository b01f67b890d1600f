import AgentProtocol
import CLinux
import Errors
import Glibc
import Linux
import Synchronization

/// Connections to ports of the pod that the guest carries for the host.
final class GuestPorts: Sendable {
    /// Connections at once; each may hold what was read at once, in both directions.
    static let limit = 1024
    /// Milliseconds that one address may take to answer, and how many of the pod's are tried: whose packets are dropped holds a worker.
    private static let patience: Int32 = 3000
    private static let mostOwn = 3
    /// Bytes of a connection's receive buffer, of which the kernel makes twice as many: room for one read, while the sender writes on.
    private static let receiveBuffer: Int32 = 512 << 10

    private let loop: EventLoop
    private let count = Mutex(0)

    init(loop: EventLoop) { self.loop = loop }

    /// Connects to the port on a loopback address, or on one of the pod's. Blocks.
    ///
    /// - Throws: `unavailable` with each address's reason.
    func connect(_ port: UInt16) throws(SwiftletError) -> PortConnection {
        let isRoom = count.withLock { count in
            guard count < Self.limit else { return false }
            count += 1
            return true
        }
        guard isRoom else { throw SwiftletError(.resourceExhausted, "port \(port): the guest carries \(Self.limit) connections already") }
        do throws(SwiftletError) {
            let descriptor = try Self.dial(port)
            return PortConnection(descriptor, loop: loop) { [self] in leave() }
        } catch {
            leave()
            throw error
        }
    }

    /// Connections at this moment.
    var taken: Int { count.withLock { $0 } }

    private func leave() { count.withLock { $0 -= 1 } }

    private static func dial(_ port: UInt16) throws(SwiftletError) -> Int32 {
        var reasons: [String] = []
        for address in try addresses() {
            do throws(SwiftletError) {
                return try dial(address, port)
            } catch {
                reasons.append("\(address): \(error.message)")
            }
        }
        throw SwiftletError(.unavailable, "nobody answers on port \(port) of the pod (\(reasons.joined(separator: "; ")))")
    }

    private static func addresses() throws(SwiftletError) -> [IPAddress] {
        let all: [IPAddress]
        do {
            all = try RouteNetlink().addresses().map(\.prefix.address)
        } catch {
            throw SwiftletError.wrap(error, "list the pod's addresses")
        }
        return ["127.0.0.1", "::1"].compactMap { IPAddress($0) } + all.filter { !$0.isLoopback && !$0.isLinkLocal }.prefix(mostOwn)
    }

    private static func dial(_ address: IPAddress, _ port: UInt16) throws(SwiftletError) -> Int32 {
        let family = address.isIPv6 ? AF_INET6 : AF_INET
        let descriptor = socket(family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { throw .system("open a socket") }
        var size = receiveBuffer
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &size, socklen_t(MemoryLayout<Int32>.size))
        var number: Int32 = 0
        if connect(descriptor, address, port) != 0 { number = errno }
        if number == EINPROGRESS {
            var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            number = ETIMEDOUT
            var length = socklen_t(MemoryLayout<Int32>.size)
            if poll(&waiting, 1, patience) > 0 { _ = getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &number, &length) }
        }
        guard number == 0 else {
            close(descriptor)
            throw SwiftletError(.unavailable, String(cString: strerror(number)))
        }
        var on: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
        return descriptor
    }

    private static func connect(_ descriptor: Int32, _ address: IPAddress, _ port: UInt16) -> Int32 {
        if address.isIPv6 {
            var target = sockaddr_in6()
            target.sin6_family = sa_family_t(AF_INET6)
            target.sin6_port = port.bigEndian
            withUnsafeMutableBytes(of: &target.sin6_addr) { $0.copyBytes(from: address.bytes) }
            return withUnsafePointer(to: &target) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in6>.size))
                }
            }
        }
        var target = sockaddr_in()
        target.sin_family = sa_family_t(AF_INET)
        target.sin_port = port.bigEndian
        withUnsafeMutableBytes(of: &target.sin_addr) { $0.copyBytes(from: address.bytes) }
        return withUnsafePointer(to: &target) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}

/// A connection to a port of the pod, carried over one of the host's. Each direction ends by itself.
final class PortConnection: ByteChannelOwner {
    private struct State {
        var host: ByteChannel?
        /// Directions that have ended.
        var ends = 0
    }

    /// Reads of fewer bytes are answers and questions rather than a transfer: the next one does not wait for more.
    private static let transfer = 4 << 10

    private let port: ByteChannel
    private let left: @Sendable () -> Void
    private let state = Mutex(State())

    /// Takes over a connected socket.
    ///
    /// - Parameter left: called when the connection is gone.
    init(_ descriptor: Int32, loop: EventLoop, left: @escaping @Sendable () -> Void) {
        port = ByteChannel(descriptor: descriptor, loop: loop)
        self.left = left
    }

    deinit {
        port.close()
        left()
    }

    /// Begins to carry, until both directions have ended.
    func carry(over host: ByteChannel) throws(SwiftletError) {
        state.withLock { $0.host = host }
        // The channels hold their owner weakly, and this holds them: whoever watches a channel's descriptor keeps it alive.
        Self.active.withLock { $0[ObjectIdentifier(self)] = self }
        host.hand(to: self)
        for channel in [host, port] { channel.gather(from: Self.transfer) }
        host.write([AgentContract.streamAccepted])
        do {
            try port.open(owner: self)
        } catch {
            end()
            throw error
        }
        host.setReading(true)
    }

    /// Connections that are carried.
    private static let active = Mutex<[ObjectIdentifier: PortConnection]>([:])

    private func end() {
        state.withLock { $0.host }?.close()
        port.close()
        _ = Self.active.withLock { $0.removeValue(forKey: ObjectIdentifier(self)) }
    }

    private func other(_ channel: ByteChannel) -> ByteChannel? { channel === port ? state.withLock { $0.host } : port }

    func channel(_ channel: ByteChannel, received bytes: UnsafeRawBufferPointer) {
        // What waits, at most one read, goes first: the kernel's own buffers keep the other side busy meanwhile.
        guard let other = other(channel), other.write(bytes) > 0 else { return }
        channel.setReading(false)
    }

    func channelReceivedEnd(_ channel: ByteChannel) {
        // A host that has closed, or died, is not one that only sends no more.
        if channel !== port, !channel.peerReceives { return end() }
        other(channel)?.finishWriting()
        let isOver = state.withLock { state in
            state.ends += 1
            return state.ends == 2
        }
        if isOver { endWhenWritten() }
    }

    func channelDrained(_ channel: ByteChannel) {
        other(channel)?.setReading(true)
        if state.withLock({ $0.ends == 2 }) { endWhenWritten() }
    }

    private func endWhenWritten() {
        guard port.queued == 0, state.withLock({ $0.host })?.queued ?? 0 == 0 else { return }
        end()
    }

    /// A side that is gone takes the other with it.
    func channelClosed(_ channel: ByteChannel, error: SwiftletError?) { end() }
}

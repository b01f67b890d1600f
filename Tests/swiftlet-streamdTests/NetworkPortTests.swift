import CLinux
import Errors
import Foundation
import Glibc
import Linux
import NIOCore
import Support
import Testing

@testable import swiftlet_streamd

/// Connections to a pod's ports by its network. The loopback's are in the pod's place.
@Suite(.timeLimit(.minutes(2))) struct NetworkPortTests {
    private final class BoundNamespace: Sendable {
        let path = NSTemporaryDirectory() + "swiftlet-ports-\(UUID().uuidString)"

        init() throws { try NetworkNamespace.create(at: path) }

        deinit { try? NetworkNamespace.delete(at: path) }
    }

    private func read(_ port: NetworkPort, _ count: Int) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count, let more = try await port.output.read() { bytes += more.readableBytesView }
        return bytes
    }

    private func accept(_ listener: Int32) throws -> Int32 {
        let descriptor = Glibc.accept(listener, nil, nil)
        guard descriptor >= 0 else { throw SwiftletError.system("accept") }
        var time = timeval(tv_sec: 60, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        return descriptor
    }

    @Test func eachDirectionEndsByItself() async throws {
        let (pod, (listener, number)) = (try BoundNamespace(), try TCPClient.listen())
        defer { close(listener) }
        for podEndsFirst in [false, true] {
            let port = try await NetworkPorts().connect(to: "127.0.0.1", number, in: pod.path)
            let peer = try accept(listener)
            defer { close(peer) }
            func sendToPod() async throws {
                try await port.input.write(ByteBuffer(string: "question"))
                await port.input.close()
                #expect(TCPClient.readAll(peer) == Array("question".utf8))
            }
            func sendFromPod() async throws {
                TCPClient.sendAll(peer, Array("answer".utf8))
                shutdown(peer, Int32(SHUT_WR))
                #expect(try await read(port, .max) == Array("answer".utf8))
                #expect(try await port.output.read() == nil)
            }
            if podEndsFirst {
                try await sendFromPod()
                try await sendToPod()
            } else {
                try await sendToPod()
                try await sendFromPod()
            }
            await port.end()
        }
    }

    @Test func thePodIsReachedByIPv6Too() async throws {
        let pod = try BoundNamespace()
        let descriptor = socket(AF_INET6, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        defer { close(descriptor) }
        var name = sockaddr_in6()
        name.sin6_family = sa_family_t(AF_INET6)
        name.sin6_addr = in6addr_loopback
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let isUp = withUnsafeMutablePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 && listen(descriptor, 1) == 0 && getsockname(descriptor, $0, &length) == 0
            }
        }
        try #require(isUp)
        let port = try await NetworkPorts().connect(to: "::1", UInt16(bigEndian: name.sin6_port), in: pod.path)
        let peer = try accept(descriptor)
        defer { close(peer) }
        try await port.input.write(ByteBuffer(string: "six"))
        await port.input.close()
        #expect(TCPClient.readAll(peer) == Array("six".utf8))
        await port.end()
    }

    @Test func whoReadsSlowlyIsWaitedForAndNothingIsLost() async throws {
        let (pod, (listener, number)) = (try BoundNamespace(), try TCPClient.listen())
        defer { close(listener) }
        let port = try await NetworkPorts().connect(to: "127.0.0.1", number, in: pod.path)
        let peer = try accept(listener)
        defer { close(peer) }
        _ = fcntl(peer, F_SETFL, fcntl(peer, F_GETFL) | O_NONBLOCK)
        var all = Data(capacity: 32 << 20)
        for block in 0..<512 { all.append(Data(repeating: UInt8(truncatingIfNeeded: block), count: (64 << 10) + block % 2)) }
        // Until nobody takes more for half a second.
        let sent = try await send(peer, all, from: 0) { $0 < 50 }
        // What the kernel's buffers take of it, and the queue.
        #expect(sent < all.count)
        let (rest, whole) = (sent, all)
        let sending = Task { try await send(peer, whole, from: rest) { _ in true } }
        var received = Data(capacity: all.count)
        while received.count < all.count, let bytes = try await port.output.read() { received.append(contentsOf: bytes.readableBytesView) }
        let isWhole = received == all
        #expect(isWhole)
        #expect(try await sending.value == all.count)
        await port.end()
    }

    /// - Parameter isPatient: asked when nobody takes more, with how often that was so, 10 ms each.
    private func send(_ peer: Int32, _ bytes: Data, from start: Int, while isPatient: @Sendable (Int) -> Bool) async throws -> Int {
        var (sent, idle) = (start, 0)
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.send(peer, $0.baseAddress?.advanced(by: sent), $0.count - sent, Int32(MSG_NOSIGNAL)) }
            if count > 0 {
                (sent, idle) = (sent + count, 0)
            } else {
                idle += 1
                guard isPatient(idle) else { return sent }
                try await Task.sleep(for: .milliseconds(10))
            }
        }
        return sent
    }

    @Test func aConnectionThatThePodResetsFails() async throws {
        let (pod, (listener, number)) = (try BoundNamespace(), try TCPClient.listen())
        defer { close(listener) }
        let port = try await NetworkPorts().connect(to: "127.0.0.1", number, in: pod.path)
        let peer = try accept(listener)
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(peer, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        close(peer)
        await #expect(throws: (any Error).self) { try await port.output.read() }
        await port.end()
    }

    @Test func endingWakesWhoReadsAndClosesTheConnection() async throws {
        let (pod, (listener, number)) = (try BoundNamespace(), try TCPClient.listen())
        defer { close(listener) }
        let port = try await NetworkPorts().connect(to: "127.0.0.1", number, in: pod.path)
        let peer = try accept(listener)
        defer { close(peer) }
        let reading = Task { try await port.output.read() }
        try await Task.sleep(for: .milliseconds(30))
        await port.end()
        #expect(try await reading.value == nil)
        #expect(TCPClient.readAll(peer) == [])
    }

    @Test func aPortThatNobodyListensOnIsUnavailableAndNamed() async throws {
        let (pod, (listener, number)) = (try BoundNamespace(), try TCPClient.listen())
        close(listener)
        let ports = NetworkPorts(limit: 1)
        // A failure takes no place.
        for _ in 0..<3 {
            let error = await #expect(throws: SwiftletError.self) { _ = try await ports.connect(to: "127.0.0.1", number, in: pod.path) }
            #expect(error?.code == .unavailable)
            #expect(
                error.map { "\($0)" }?.contains("port \(number) of the pod at 127.0.0.1: Connection refused") == true, "\(error as Any)")
        }
    }

    @Test func aPodWhoseNetworkIsGoneIsNotConnectedTo() async throws {
        let (listener, number) = try TCPClient.listen()
        defer { close(listener) }
        let pod = try BoundNamespace()
        try NetworkNamespace.delete(at: pod.path)
        await #expect { _ = try await NetworkPorts().connect(to: "127.0.0.1", number, in: pod.path) } throws: {
            ($0 as? SwiftletError)?.code == .notFound
        }
    }

    @Test func onePodsConnectionsLeaveRoomForOthers() async throws {
        let (first, second, (listener, number)) = (try BoundNamespace(), try BoundNamespace(), try TCPClient.listen())
        defer { close(listener) }
        let ports = NetworkPorts(limit: 2)
        let open = [
            try await ports.connect(to: "127.0.0.1", number, in: first.path),
            try await ports.connect(to: "127.0.0.1", number, in: first.path),
        ]
        await #expect { _ = try await ports.connect(to: "127.0.0.1", number, in: first.path) } throws: {
            ($0 as? SwiftletError)?.code == .resourceExhausted
        }
        await (try await ports.connect(to: "127.0.0.1", number, in: second.path)).end()
        await open[0].end()
        await (try await ports.connect(to: "127.0.0.1", number, in: first.path)).end()
        await open[1].end()
    }
}

import AgentProtocol
import Concurrency
import Errors
import Foundation
import Glibc
import Linux
import Support
import Testing

@testable import AgentClient
@testable import GuestAgent

/// Connections to ports, carried over a socket that stands for the host's.
@Suite(.timeLimit(.minutes(1))) struct PortConnectionTests {
    /// Who listens in the pod.
    private struct Server {
        let descriptor: Int32
        let port: UInt16

        init() throws {
            descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            let listener = descriptor
            let result = withUnsafeMutablePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                    bind(listener, address, length) == 0 && listen(listener, 8) == 0 && getsockname(listener, address, &length) == 0
                }
            }
            guard result else { throw SwiftletError.system("listen") }
            port = UInt16(bigEndian: address.sin_port)
        }

        func accept() -> Int32 { Glibc.accept(descriptor, nil, nil) }
    }

    private static func readAll(_ descriptor: Int32) -> [UInt8] {
        var (all, part) = ([UInt8](), [UInt8](repeating: 0, count: 65536))
        while true {
            let count = read(descriptor, &part, part.count)
            guard count > 0 else { return all }
            all += part[..<count]
        }
    }

    /// The host's end of a connection that is carried.
    private func carry(_ ports: GuestPorts, _ port: UInt16, _ loop: EventLoop) throws -> Int32 {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else { throw SwiftletError.system("socketpair") }
        let connection = try ports.connect(port)
        let channel = ByteChannel(descriptor: ends[1], loop: loop)
        // As the stream server has it, whose owner reads the token first.
        let newcomer = Newcomer()
        try channel.open(owner: newcomer, reading: false)
        try connection.carry(over: channel)
        var accepted: UInt8 = 255
        #expect(read(ends[0], &accepted, 1) == 1 && accepted == AgentContract.streamAccepted)
        return ends[0]
    }

    private final class Newcomer: ByteChannelOwner {
        func channel(_ channel: ByteChannel, received bytes: UnsafeRawBufferPointer) {}
        func channelReceivedEnd(_ channel: ByteChannel) {}
        func channelDrained(_ channel: ByteChannel) {}
        func channelClosed(_ channel: ByteChannel, error: SwiftletError?) {}
    }

    @Test func bytesGoBothWaysAndEachDirectionEndsByItself() async throws {
        let loop = try EventLoop(name: "ports")
        let (server, ports) = (try Server(), GuestPorts(loop: loop))
        let host = try carry(ports, server.port, loop)
        let bytes = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        async let answered: Void = OwnThread.answer {
            let client = server.accept()
            // Answers when it has all: the other direction is still open then.
            let all = Self.readAll(client)
            var sent = 0
            while sent < all.count { sent += max(0, all[sent...].withUnsafeBytes { write(client, $0.baseAddress, $0.count) }) }
            close(client)
        }
        async let sending: Void = OwnThread.answer {
            var sent = 0
            while sent < bytes.count { sent += max(0, bytes[sent...].withUnsafeBytes { write(host, $0.baseAddress, $0.count) }) }
            shutdown(host, Int32(SHUT_WR))
        }
        let answer = await OwnThread.answer { Self.readAll(host) }
        _ = await (answered, sending)
        #expect(answer == bytes)
        close(host)
        close(server.descriptor)
        try await eventually("the place is free") { ports.taken == 0 }
    }

    /// A server that neither answers nor ends: a host that has gone must not leave its connection behind.
    @Test func aHostThatHasGoneTakesTheConnectionWithIt() async throws {
        let loop = try EventLoop(name: "ports")
        let (server, ports) = (try Server(), GuestPorts(loop: loop))
        let host = try carry(ports, server.port, loop)
        let client = await OwnThread.answer { server.accept() }
        #expect(ports.taken == 1)
        close(host)
        try await eventually("the place is free") { ports.taken == 0 }
        #expect(await OwnThread.answer { Self.readAll(client) } == [])
        close(client)
        close(server.descriptor)
    }

    /// 256 KiB of single bytes would take the host a hundred times as much.
    @Test func tinyPiecesOfAGuestAreKeptTogetherUntilTheyAreRead() async throws {
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        let stream = try AgentPortStream(descriptor: ends[1], mark: CrashMark(), loop: try EventLoop(name: "ports"))
        let guest = ends[0]
        await OwnThread.answer {
            for byte in UInt8(0)..<100 {
                _ = [byte].withUnsafeBytes { write(guest, $0.baseAddress, 1) }
                usleep(200)
            }
            shutdown(guest, Int32(SHUT_WR))
        }
        var pieces: [[UInt8]] = []
        while let piece = try await stream.read() { pieces.append(piece) }
        #expect(pieces.count == 1 && pieces.joined().elementsEqual(0..<100), "\(pieces.count) pieces")
        stream.close()
        close(guest)
    }

    /// As a server that is killed with a request unread, or one that wants no more of its client.
    @Test func aResetOfThePodsSideIsAnErrorAndNoEnd() async throws {
        let loop = try EventLoop(name: "ports")
        let (server, ports) = (try Server(), GuestPorts(loop: loop))
        let stream = try AgentPortStream(descriptor: try carry(ports, server.port, loop), mark: CrashMark(), loop: loop)
        try await stream.write([1, 2, 3])
        await OwnThread.answer {
            let client = server.accept()
            var byte: UInt8 = 0
            _ = read(client, &byte, 1)
            // What was not read makes it a reset.
            close(client)
        }
        let error = await #expect(throws: SwiftletError.self) { try await stream.read() }
        #expect(error?.code == .unavailable, "\(String(describing: error))")
        stream.close()
        close(server.descriptor)
        try await eventually("the place is free") { ports.taken == 0 }
    }

    @Test func anEndOfThePodsSideIsNoError() async throws {
        let loop = try EventLoop(name: "ports")
        let (server, ports) = (try Server(), GuestPorts(loop: loop))
        for hostEndsFirst in [false, true] {
            let stream = try AgentPortStream(descriptor: try carry(ports, server.port, loop), mark: CrashMark(), loop: loop)
            let client = await OwnThread.answer { server.accept() }
            if hostEndsFirst { stream.closeWrite() }
            await OwnThread.answer {
                if hostEndsFirst { _ = Self.readAll(client) }
                _ = [UInt8](repeating: 7, count: 3).withUnsafeBytes { write(client, $0.baseAddress, $0.count) }
                close(client)
            }
            var bytes: [UInt8] = []
            while let piece = try await stream.read() { bytes += piece }
            #expect(bytes == [7, 7, 7])
            stream.close()
            try await eventually("the place is free") { ports.taken == 0 }
        }
        close(server.descriptor)
    }

    @Test func aConnectionThatNobodyTakesIsGivenBackAndAPortWithoutListenerIsNamed() throws {
        let loop = try EventLoop(name: "ports")
        let (server, ports) = (try Server(), GuestPorts(loop: loop))
        do { _ = try ports.connect(server.port) }
        #expect(ports.taken == 0)
        close(server.descriptor)
        let error = #expect(throws: SwiftletError.self) { _ = try ports.connect(server.port) }
        #expect(error?.code == .unavailable)
        #expect(error?.message.contains("127.0.0.1: Connection refused") == true, "\(String(describing: error))")
        #expect(ports.taken == 0)
    }
}

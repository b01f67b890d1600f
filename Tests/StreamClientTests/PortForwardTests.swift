import Errors
import Foundation
import Glibc
import NIOCore
import StreamFakes
import StreamServer
import Support
import Synchronization
import Testing

@testable import StreamClient

/// Ports of this machine's loopback, forwarded by way of the streaming server.
@Suite(.timeLimit(.minutes(3))) struct PortForwardTests {
    /// What is sent there comes back, or what the closure makes of it.
    private func withForward(
        to port: UInt16, _ body: (ForwardedNode) async throws -> Void
    ) async throws {
        let node = try await ForwardedNode(to: port)
        do { try await body(node) } catch {
            await node.stop()
            throw error
        }
        await node.stop()
    }

    @Test func twoHundredLocalConnectionsAtOnceKeepTheirBytesApart() async throws {
        let echo = try EchoServer()
        defer { echo.stop() }
        try await withForward(to: echo.port) { node in
            let wrong = try await withThrowingTaskGroup(of: Bool.self) { group in
                for index in 0..<200 {
                    group.addTask {
                        let bytes = Array(randomBytes(200_000, seed: UInt64(index)))
                        return try await TCPClient.exchange(node.port, bytes) == bytes
                    }
                }
                return try await group.reduce(0) { $0 + ($1 ? 0 : 1) }
            }
            #expect(wrong == 0, "\(node.failures)")
            #expect(node.failures.isEmpty && node.backend.connections.count == 200)
            try await eventually("all connections of the pod have ended") {
                node.backend.connections.allSatisfy { $0.hasEnded.withLock { $0 } }
            }
        }
    }

    @Test func whatThePodSendsAfterTheLocalEndArrives() async throws {
        let answer = Array(randomBytes(3_000_000, seed: 1))
        let server = try EchoServer(afterEnd: answer) { _ in [] }
        defer { server.stop() }
        try await withForward(to: server.port) { node in
            let socket = try TCPClient.connect(node.port)
            let received = try await TCPClient.onThread {
                TCPClient.sendAll(socket, Array("question".utf8))
                shutdown(socket, Int32(SHUT_WR))
                defer { close(socket) }
                return TCPClient.readAll(socket)
            }
            let isRight = received == answer
            #expect(isRight && node.failures.isEmpty, "\(received.count) \(node.failures)")
        }
    }

    @Test func whatIsSentAfterThePodsEndArrives() async throws {
        let (listener, port) = try TCPClient.listen()
        defer { close(listener) }
        try await withForward(to: port) { node in
            let bytes = Array(randomBytes(3_000_000, seed: 2))
            let pod = Task {
                try await TCPClient.onThread {
                    let client = accept(listener, nil, nil)
                    TCPClient.sendAll(client, Array("hello".utf8))
                    shutdown(client, Int32(SHUT_WR))
                    defer { close(client) }
                    return TCPClient.readAll(client)
                }
            }
            let socket = try TCPClient.connect(node.port)
            let greeting = try await TCPClient.onThread {
                let greeting = TCPClient.readAll(socket)
                TCPClient.sendAll(socket, bytes)
                close(socket)
                return greeting
            }
            let isRight = try await pod.value == bytes
            #expect(greeting == Array("hello".utf8) && isRight && node.failures.isEmpty, "\(node.failures)")
        }
    }

    @Test func aRefusedConnectionIsToldAndTheOthersGoOn() async throws {
        let echo = try EchoServer()
        try await withForward(to: echo.port) { node in
            let lasting = try TCPClient.connect(node.port)
            let first = try await TCPClient.onThread { Self.exchange(lasting, [1, 2, 3]) }
            #expect(first == [1, 2, 3])
            echo.stop()
            let refused = try TCPClient.connect(node.port)
            let answer = try await TCPClient.onThread { TCPClient.readAll(refused) }
            #expect(answer == [])
            close(refused)
            try await eventually("it is told: \(node.failures)") {
                node.failures.contains { $0.contains("forward to port \(echo.port) of pod sandbox p: connect: Connection refused") }
            }
            let second = try await TCPClient.onThread { Self.exchange(lasting, [4, 5]) }
            #expect(second == [4, 5] && node.failures.count == 1)
            close(lasting)
        }
    }

    private static func exchange(_ socket: Int32, _ bytes: [UInt8]) -> [UInt8] {
        TCPClient.sendAll(socket, bytes)
        var answer: [UInt8] = []
        var byte: UInt8 = 0
        while answer.count < bytes.count, recv(socket, &byte, 1, 0) == 1 { answer.append(byte) }
        return answer
    }

    /// A local peer that fails is not one that has only ended, nor is it a failure of the forwarding.
    @Test func aLocalResetEndsThePodsConnection() async throws {
        let echo = try EchoServer()
        defer { echo.stop() }
        try await withForward(to: echo.port) { node in
            let socket = try TCPClient.connect(node.port)
            let answer = try await TCPClient.onThread { Self.exchange(socket, [1]) }
            #expect(answer == [1])
            var linger = linger(l_onoff: 1, l_linger: 0)
            setsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
            close(socket)
            try await eventually("the pod's side ends") { node.backend.connections.first?.hasEnded.withLock { $0 } ?? false }
            #expect(node.failures.isEmpty, "\(node.failures)")
        }
    }

    /// What it does not read stays in the pod, and others are served meanwhile.
    @Test func aSlowLocalReaderHoldsUpNobodyElse() async throws {
        let sent = Atomic(0)
        let (listener, port) = try TCPClient.listen()
        defer { close(listener) }
        let all = Array(randomBytes(40 << 20, seed: 3))
        let pod = Task {
            try await TCPClient.onThread {
                let client = accept(listener, nil, nil)
                for start in stride(from: 0, to: all.count, by: 1 << 16) {
                    TCPClient.sendAll(client, Array(all[start..<min(start + 1 << 16, all.count)]))
                    sent.add(1 << 16, ordering: .relaxed)
                }
                close(client)
            }
        }
        try await withForward(to: port) { node in
            let slow = try TCPClient.connect(node.port)
            var last = -1
            try await eventually("it is held up") {
                defer { last = sent.load(ordering: .relaxed) }
                return last > 0 && last == sent.load(ordering: .relaxed)
            }
            let held = sent.load(ordering: .relaxed)
            // The kernel's buffers of three connections, and the windows.
            #expect(held < 30 << 20, "\(held)")
            let others = try (0..<10).map { _ in try TCPClient.connect(node.port) }
            let answering = Task {
                try await TCPClient.onThread {
                    for _ in 0..<10 {
                        let client = accept(listener, nil, nil)
                        TCPClient.sendAll(client, [UInt8](repeating: 9, count: 1 << 20))
                        close(client)
                    }
                }
            }
            for other in others {
                let count = try await TCPClient.onThread { TCPClient.readAll(other).count }
                #expect(count == 1 << 20)
                close(other)
            }
            try await answering.value
            let isWhole = try await TCPClient.onThread { TCPClient.readAll(slow) == all }
            #expect(isWhole && node.failures.isEmpty, "\(node.failures)")
            close(slow)
            try await pod.value
        }
    }

    @Test func theSessionsEndIsReturnedWithItsReason() async throws {
        let echo = try EchoServer()
        defer { echo.stop() }
        let node = try await ForwardedNode(to: echo.port)
        let socket = try TCPClient.connect(node.port)
        let answer = try await TCPClient.onThread { Self.exchange(socket, [1]) }
        #expect(answer == [1])
        await node.server.stop()
        let end = await node.running.value
        #expect("\(end)".contains("the server has closed the connection") || "\(end)".contains("reset"), "\(end)")
        #expect(try await TCPClient.onThread { TCPClient.readAll(socket) } == [])
        close(socket)
        #expect(node.failures.isEmpty, "\(node.failures)")
        await node.stop()
    }

    @Test func aCancelledForwardEndsItsConnections() async throws {
        let echo = try EchoServer()
        defer { echo.stop() }
        let node = try await ForwardedNode(to: echo.port)
        let socket = try TCPClient.connect(node.port)
        let answer = try await TCPClient.onThread { Self.exchange(socket, [1]) }
        #expect(answer == [1])
        node.running.cancel()
        _ = await node.running.value
        #expect(try await TCPClient.onThread { TCPClient.readAll(socket) } == [])
        close(socket)
        try await eventually("the pod's side ends") { node.backend.connections.first?.hasEnded.withLock { $0 } ?? false }
        #expect(node.failures.isEmpty, "\(node.failures)")
        await node.stop()
    }

    @Test func aPortThatIsTakenIsNamed() async throws {
        let (descriptor, port) = try TCPClient.listen()
        defer { close(descriptor) }
        let error = await #expect(throws: SwiftletError.self) { _ = try await PortListener("127.0.0.1", port: port) }
        #expect("\(try #require(error))" == "127.0.0.1:\(port): Address already in use (errno 98)")
        let listener = try await PortListener("::1", port: 0)
        #expect(listener.port > 0 && listener.name == "[::1]:\(listener.port)")
        await listener.close()
    }
}

/// A streaming server, a session to it, and a listener that is forwarded.
private final class ForwardedNode: Sendable {
    let backend = LocalBackend()
    let server: StreamServer
    let running: Task<any Error, Never>
    let port: UInt16
    private let listener: PortListener
    private let failed: Failures

    private final class Failures: Sendable {
        let all = Mutex<[String]>([])
    }

    /// What has failed on a connection, in order.
    var failures: [String] { failed.all.withLock { $0 } }

    init(to remote: UInt16) async throws {
        server = try await StreamServer.start(ServerConfiguration(), backend, logger: RecordedLog().logger)
        let url = try server.url(for: .portForward(PortForwardRequest(sandboxID: "p", ports: [])))
        let session = try await SPDYSession.connect(to: url, versions: [PortForwarder.version], by: SessionConnector())
        let listener = try await PortListener("127.0.0.1", port: 0)
        let failed = Failures()
        (self.listener, port, self.failed) = (listener, listener.port, failed)
        running = Task {
            await PortForwarder(session).run([(listener, remote)], opened: { _, _ in }) { _, _, error in
                failed.all.withLock { $0.append("\(error)") }
            }
        }
    }

    func stop() async {
        running.cancel()
        _ = await running.value
        await listener.close()
        await server.stop()
    }
}

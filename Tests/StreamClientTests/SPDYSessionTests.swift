import Errors
import Foundation
import Glibc
import NIOCore
import StreamFakes
import StreamFrames
import Support
import Synchronization
import Testing

@testable import StreamClient

/// Sessions with servers that say what no server should, or say nothing any more.
@Suite(.timeLimit(.minutes(2))) struct SPDYSessionTests {
    private static let version = PortForwarder.version
    private static let head =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: \(version)\r\n\r\n"

    /// A session with a server that sends `bytes` once a stream was opened, runs `then`, and closes the connection.
    private func session(
        _ bytes: [UInt8], then: @escaping @Sendable (Int32) -> Void = { _ in }
    ) async throws -> (session: SPDYSession, stream: ByteStream, server: ScriptedServer) {
        let server = try ScriptedServer { client, _ in
            TCPClient.sendAll(client, Array(Self.head.utf8))
            guard Self.awaitStream(client) else { return }
            TCPClient.sendAll(client, bytes)
            then(client)
        }
        let session = try await SPDYSession.connect(to: server.url, versions: [Self.version], by: SessionConnector())
        return (session, try await session.open([("streamType", "data")]), server)
    }

    private static func awaitStream(_ client: Int32) -> Bool {
        var (decoder, part) = (SPDYFrameDecoder(), [UInt8](repeating: 0, count: 4096))
        while true {
            let count = recv(client, &part, part.count, 0)
            guard count > 0 else { return false }
            decoder.append(ByteBuffer(bytes: part[..<count]))
            while let frame = try? decoder.next() {
                if case .synStream = frame { return true }
            }
        }
    }

    @Test func aServerThatChoosesNoVersionIsRefused() async throws {
        let server = try ScriptedServer { client, _ in TCPClient.sendAll(client, Array(ScriptedServer.switching.utf8)) }
        let error = await #expect(throws: SwiftletError.self) {
            _ = try await SPDYSession.connect(to: server.url, versions: [Self.version], by: SessionConnector())
        }
        #expect(try #require(error).code == .failedPrecondition)
    }

    @Test func aServerThatVanishesInAFrameEndsTheSessionAndItsStreams() async throws {
        let (session, stream, _) = try await session([0, 0, 0, 1, 0, 0, 0, 100, 7, 8])
        #expect(try await stream.read() == ByteBuffer(bytes: [7, 8]))
        let error = await #expect(throws: SwiftletError.self) { _ = try await stream.read() }
        #expect("\(try #require(error))" == "the server has closed the connection")
        #expect("\(await session.ended())" == "the server has closed the connection")
        await #expect(throws: SwiftletError.self) { _ = try await session.open([]) }
        await #expect(throws: SwiftletError.self) { try await stream.write(ByteBuffer(bytes: [1])) }
    }

    @Test(
        arguments: [
            ("control frame is of SPDY version 2, not 3", [0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2]),
            ("control frame of type 2 has 16777215 bytes; at most 16384 are taken", [0x80, 3, 0, 2, 0, 0xFF, 0xFF, 0xFF]),
            ("header block is not zlib's", [0x80, 3, 0, 2, 0, 0, 0, 8, 0, 0, 0, 1, 0xDE, 0xAD, 0xBE, 0xEF]),
            ("ping frame is too long", [0x80, 3, 0, 6, 0, 0, 0, 5, 0, 0, 0, 2, 0]),
            ("stream 9 has a client's number", [0x80, 3, 0, 1, 0, 0, 0, 10, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0]),
        ] as [(String, [UInt8])]) func whatIsNoSPDYEndsTheSessionAndIsNamed(_ what: String, _ bytes: [UInt8]) async throws
    {
        let (session, stream, _) = try await session(bytes) { _ = TCPClient.readAll($0) }
        #expect("\(await session.ended())" == "the server breaks SPDY's rules: \(what)")
        await #expect(throws: (any Error).self) { _ = try await stream.read() }
    }

    @Test func aServerThatLeavesServesWhatIsOpenAndTakesNoMore() async throws {
        let goAway: [UInt8] = [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0]
        let (session, stream, _) = try await session(goAway + [0, 0, 0, 1, 1, 0, 0, 1, 5]) { _ = TCPClient.readAll($0) }
        var bytes: [UInt8] = []
        for try await part in stream { bytes += part.readableBytesView }
        #expect(bytes == [5])
        let error = await #expect(throws: SwiftletError.self) { _ = try await session.open([]) }
        #expect(try #require(error).code == .aborted)
        session.end()
        _ = await session.ended()
    }

    @Test func aServerThatCallsItAFaultIsQuoted() async throws {
        let (session, _, _) = try await session([0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1])
        #expect("\(await session.ended())" == "the server has closed the connection for an error of the protocol (1)")
    }

    /// moby/spdystream's server knows no windows: what is not read stays in the socket.
    @Test func aServerWithoutWindowsIsNotReadWhileAStreamIsNot() async throws {
        let sent = Atomic(0)
        let frame: [UInt8] = [0, 0, 0, 1, 0, 1, 0, 0] + [UInt8](repeating: 3, count: 1 << 16)
        let (session, stream, _) = try await session([]) { client in
            for _ in 0..<1600 {
                TCPClient.sendAll(client, frame)
                sent.add(1 << 16, ordering: .relaxed)
            }
            TCPClient.sendAll(client, [0, 0, 0, 1, 1, 0, 0, 0])
            _ = TCPClient.readAll(client)
        }
        var last = -1
        try await eventually("it is held up") {
            defer { last = sent.load(ordering: .relaxed) }
            return last > 0 && last == sent.load(ordering: .relaxed)
        }
        // The kernel's buffers of a loopback connection.
        #expect(last < 20 << 20, "\(last)")
        var count = 0
        for try await part in stream { count += part.readableBytes }
        #expect(count == 1600 << 16)
        session.end()
        _ = await session.ended()
    }

    @Test func aServerThatAsksAndReadsNoAnswersIsLeft() async throws {
        let (session, _, _) = try await session([]) { client in
            let pings = Array(repeatElement([0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2] as [UInt8], count: 10_000).joined())
            while TCPClient.sendAll(client, pings) {}
        }
        #expect("\(await session.ended())" == "the server breaks SPDY's rules: the server sends frames and reads no answers")
    }

    @Test func anEndOfThisSideIsNoFault() async throws {
        let (session, stream, _) = try await session([]) { _ = TCPClient.readAll($0) }
        session.end()
        _ = await session.ended()
        await #expect(throws: (any Error).self) { _ = try await stream.read() }
    }
}

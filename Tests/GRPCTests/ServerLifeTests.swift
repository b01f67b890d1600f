import Errors
import Foundation
import GRPC
import Logging
import Testing

/// Sockets, shutdown and what a server leaves behind.
@Suite(.timeLimit(.minutes(1)))
struct ServerLifeTests {
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func failure(listeningOn path: String) async -> SwiftletError? {
        let server = GRPCServer(methods: MethodTable(), logger: logger)
        var failure: SwiftletError?
        do { try server.listen(on: .unix(path: path)) } catch { failure = error as? SwiftletError }
        await server.shutdown(grace: .zero)
        return failure
    }

    @Test func theSocketIsForTheGroupAndGoesWithTheServer() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/with space %41.sock"
        let server = try TestServer(endpoint: .unix(path: path))
        let permissions = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        #expect(permissions == 0o660)
        let client = GRPCClient(endpoint: server.endpoint)
        #expect(try await client.unary(TestServer.prefix + "Echo", [1]) == [1])
        await client.close()
        await server.server.shutdown(grace: .seconds(10))
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
    }

    @Test func aStaleSocketIsReplaced() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/s.sock"
        try PlainConnection.leaveStaleSocket(path: path)
        let server = try TestServer(endpoint: .unix(path: path))
        let client = GRPCClient(endpoint: server.endpoint)
        #expect(try await client.unary(TestServer.prefix + "Echo", [1]) == [1])
        await client.close()
        await server.server.shutdown(grace: .zero)
    }

    @Test func aLiveSocketIsRefusedAndLeftAlone() async throws {
        try await TestServer.with { server in
            guard case .unix(let path) = server.endpoint else { return }
            let error = await failure(listeningOn: path)
            #expect(error?.code == .alreadyExists)
            #expect(error?.message.contains("another process listens") == true)
            let client = GRPCClient(endpoint: server.endpoint)
            let reply = try await client.unary(TestServer.prefix + "Echo", [1])
            #expect(reply == [1])
            await client.close()
        }
    }

    @Test func filesInTheWayAndMissingDirectoriesAreRefused() async throws {
        let directory = try TemporaryDirectory()
        let file = directory.path + "/file"
        try Data("keep".utf8).write(to: URL(fileURLWithPath: file))
        #expect(await failure(listeningOn: file)?.message.contains("not a socket") == true)
        #expect(try String(contentsOfFile: file, encoding: .utf8) == "keep")
        #expect(await failure(listeningOn: directory.path + "/none/s.sock")?.message.contains("directory") == true)
        #expect(await failure(listeningOn: directory.path + "/" + String(repeating: "x", count: 120))?.code == .invalidArgument)
    }

    @Test func aTakenPortIsRefused() async throws {
        let first = try TestServer(endpoint: .tcp(host: "127.0.0.1", port: 0))
        #expect(throws: SwiftletError.self) { try TestServer(endpoint: first.endpoint) }
        await first.server.shutdown(grace: .zero)
    }

    @Test func shutdownLetsRunningCallsEnd() async throws {
        let gate = AsyncStream.makeStream(of: Void.self)
        let arrived = AsyncStream.makeStream(of: Void.self)
        var methods = MethodTable()
        methods.add(
            path: "/test.v1.Test/Gate",
            .unary { _, _ in
                arrived.continuation.finish()
                for await _ in gate.stream {}
                return [42]
            })
        let directory = try TemporaryDirectory()
        let server = GRPCServer(methods: methods, logger: logger)
        let endpoint = try server.listen(on: .unix(path: directory.path + "/s.sock"))
        server.start()
        let client = GRPCClient(endpoint: endpoint)
        let call = Task { try await client.unary("/test.v1.Test/Gate", []) }
        for await _ in arrived.stream {}
        let shutdown = Task { await server.shutdown(grace: .seconds(50)) }
        // New connections are refused before the old call has ended.
        let late = GRPCClient(endpoint: endpoint)
        var refused = false
        while !refused {
            do { _ = try await late.unary("/test.v1.Test/Nothing", []) } catch let status as GRPCStatus {
                refused = status.code == .unavailable
            }
        }
        gate.continuation.finish()
        #expect(try await call.value == [42])
        await shutdown.value
        await late.close()
        await client.close()
    }

    @Test func shutdownCancelsWhatOutlastsTheGrace() async throws {
        let server = try TestServer()
        let client = GRPCClient(endpoint: server.endpoint)
        let call = Task { try await client.unary(TestServer.prefix + "Slow", []) }
        await server.calls.reach { $0.started == 1 }
        await server.server.shutdown(grace: .milliseconds(10))
        await server.calls.reach { $0.cancelled == 1 }
        await expectStatus(.unavailable) { try await call.value }
        await client.close()
    }

    @Test func aHandlerThatIgnoresCancellationDoesNotHoldUpTheShutdown() async throws {
        let gate = AsyncStream.makeStream(of: Void.self)
        let arrived = AsyncStream.makeStream(of: Void.self)
        let left = AsyncStream.makeStream(of: Void.self)
        var methods = MethodTable()
        methods.add(
            path: "/test.v1.Test/Deaf",
            .unary { _, _ in
                arrived.continuation.finish()
                await Task.detached { for await _ in gate.stream {} }.value
                left.continuation.finish()
                return [1]
            })
        let directory = try TemporaryDirectory()
        let server = GRPCServer(methods: methods, logger: logger)
        let endpoint = try server.listen(on: .unix(path: directory.path + "/s.sock"))
        server.start()
        let client = GRPCClient(endpoint: endpoint)
        let call = Task { try await client.unary("/test.v1.Test/Deaf", []) }
        for await _ in arrived.stream {}
        await server.shutdown(grace: .zero, patience: .milliseconds(10))
        await expectStatus(.unavailable) { try await call.value }
        gate.continuation.finish()
        for await _ in left.stream {}
        await client.close()
    }

    @Test(arguments: ["", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0"])
    func aSilentConnectionDoesNotHoldUpTheShutdown(greeting: String) async throws {
        let server = try TestServer()
        guard case .unix(let path) = server.endpoint else { return }
        let silent = try PlainConnection(path: path)
        try silent.send(Array(greeting.utf8))
        // A call on another connection: the server has seen the silent one by then.
        let client = GRPCClient(endpoint: server.endpoint)
        _ = try await client.unary(TestServer.prefix + "Echo", [])
        await client.close()
        await server.server.shutdown(grace: .seconds(1))
    }

    @Test func aServerLostInMidCallIsUnavailable() async throws {
        let server = try TestServer()
        let client = GRPCClient(endpoint: server.endpoint)
        let stream = Task { for try await _ in client.serverStreaming(TestServer.prefix + "Ticks", Array("-1".utf8)) {} }
        await server.calls.reach { $0.started == 1 }
        await server.server.shutdown(grace: .zero)
        await expectStatus(.unavailable) { try await stream.value }
        await client.close()
    }
}

struct EndpointTests {
    @Test(arguments: [
        ("unix:///run/x.sock", Endpoint.unix(path: "/run/x.sock")),
        ("/run/x.sock", .unix(path: "/run/x.sock")),
        ("tcp://127.0.0.1:1234", .tcp(host: "127.0.0.1", port: 1234)),
        ("tcp://[::1]:1", .tcp(host: "::1", port: 1)),
        ("tcp://localhost:0", .tcp(host: "localhost", port: 0)),
    ])
    func wellFormedTextsAreRead(text: String, endpoint: Endpoint) throws {
        #expect(try Endpoint(parsing: text) == endpoint)
        #expect(try Endpoint(parsing: endpoint.description) == endpoint)
    }

    @Test(arguments: [
        "", "run/x.sock", "unix://", "unix://run/x", "tcp://", "tcp://host", "tcp://host:99999", "tcp://host:-1", "tcp://::1:1",
        "http://x:1", "unix:///" + String(repeating: "x", count: 107), "/a\0b",
    ])
    func malformedTextsAreRefused(text: String) {
        #expect(throws: SwiftletError.self) { try Endpoint(parsing: text) }
    }
}

import GRPC
import Glibc
import Synchronization
import Testing

/// The module's own client against its own server.
@Suite(.timeLimit(.minutes(1)))
struct SwiftClientTests {
    private let path = TestServer.prefix

    @Test func unaryCallsAnswer() async throws {
        try await TestServer.with { server in
            let client = GRPCClient(endpoint: server.endpoint)
            #expect(try await client.unary(path + "Echo", Array("abc".utf8), timeout: .seconds(30)) == Array("abc".utf8))
            #expect(try await client.unary(path + "Echo", []) == [])
            let context = try await client.unary(path + "Context", [], metadata: [("x-a", "1"), ("x-b-bin", "AP8H")])
            #expect(String(decoding: context, as: UTF8.self) == "x-a=1 x-b-bin=AP8H deadline=false method=/test.v1.Test/Context")
            await client.close()
            await #expect(throws: GRPCStatus.self) { try await client.unary(path + "Echo", []) }
        }
    }

    @Test func failuresCarryCodeAndMessage() async throws {
        try await TestServer.with { server in
            let client = GRPCClient(endpoint: server.endpoint)
            await #expect(throws: GRPCStatus(.failedPrecondition, "warum? 日本")) {
                try await client.unary(path + "Fail", Array("warum? 日本".utf8))
            }
            await expectStatus(.unknown) { try await client.unary(path + "Crash", []) }
            await expectStatus(.unimplemented) { try await client.unary(path + "Nothing", []) }
            await expectStatus(.invalidArgument) { try await client.unary(path + "Echo", [], metadata: [("not legal", "")]) }
            await client.close()
        }
    }

    @Test func aPassedDeadlineCancelsTheHandler() async throws {
        try await TestServer.with { server in
            let client = GRPCClient(endpoint: server.endpoint)
            // On a busy machine a short deadline may pass before the handler has begun.
            var timeout = Duration.milliseconds(50)
            repeat {
                await expectStatus(.deadlineExceeded) { try await client.unary(path + "Slow", [], timeout: timeout) }
                timeout *= 2
            } while server.calls.now.started == 0
            await server.calls.reach { $0.cancelled == $0.started }
            await client.close()
        }
    }

    @Test func largestMessagesPassAndLargerOnesAreRefused() async throws {
        try await TestServer.with { server in
            let client = GRPCClient(endpoint: server.endpoint)
            let limit = 16 * 1024 * 1024
            let message = [UInt8](repeating: 5, count: limit)
            let echoed = try await client.unary(path + "Echo", message)
            #expect(echoed == message)
            await expectStatus(.resourceExhausted) { try await client.unary(path + "Echo", message + [0]) }
            let small = GRPCClient(endpoint: server.endpoint, maximumMessageBytes: 1000)
            await expectStatus(.resourceExhausted) { try await small.unary(path + "Size", Array("1001".utf8)) }
            #expect(try await small.unary(path + "Size", Array("1000".utf8)).count == 1000)
            await small.close()
            await client.close()
        }
    }

    @Test func streamsDeliverInOrderAndEnd() async throws {
        try await TestServer.with { server in
            let client = GRPCClient(endpoint: server.endpoint)
            var next = 0
            for try await tick in client.serverStreaming(path + "Ticks", Array("5000".utf8)) {
                #expect(tick == Array("\(next)".utf8))
                next += 1
            }
            #expect(next == 5000)
            await expectStatus(.unimplemented) { for try await _ in client.serverStreaming("/no.such/Stream", []) {} }
            await client.close()
        }
    }

    @Test func aReaderThatStopsHoldsTheHandlerBack() async throws {
        try await TestServer.with { server in
            let client = GRPCClient(endpoint: server.endpoint)
            var reader = client.serverStreaming(path + "Flood", []).makeAsyncIterator()
            #expect(try await reader.next()?.count == 64 * 1024)
            // Settles once the windows are full: nothing more is written while a hundred other calls pass.
            var settled = -1
            while case let written = server.calls.written.load(ordering: .relaxed), written != settled {
                settled = written
                for _ in 0..<100 { _ = try await client.unary(path + "Echo", [1]) }
            }
            #expect(settled < 1000)
            for _ in 0..<(settled + 100) { _ = try await reader.next() }
            #expect(server.calls.written.load(ordering: .relaxed) > settled)
            await client.close()
        }
    }

    @Test func cancellingTheTaskCancelsTheHandler() async throws {
        try await TestServer.with { server in
            let client = GRPCClient(endpoint: server.endpoint)
            let unary = Task { try await client.unary(path + "Slow", []) }
            let stream = Task { for try await _ in client.serverStreaming(path + "Ticks", Array("-1".utf8)) {} }
            await server.calls.reach { $0.started == 2 }
            unary.cancel()
            stream.cancel()
            await server.calls.reach { $0.cancelled == 2 }
            await expectStatus(.cancelled) { try await unary.value }
            _ = await stream.result
            await client.close()
        }
    }

    @Test func aStreamLetGoIsCancelled() async throws {
        try await TestServer.with { server in
            let client = GRPCClient(endpoint: server.endpoint)
            for try await _ in client.serverStreaming(path + "Ticks", Array("-1".utf8)) { break }
            await server.calls.reach { $0.cancelled == 1 }
            await client.close()
        }
    }

    @Test func nobodyListeningIsUnavailableAtOnce() async throws {
        let directory = try TemporaryDirectory()
        for endpoint in [Endpoint.unix(path: directory.path + "/none.sock"), .tcp(host: "127.0.0.1", port: 1)] {
            let client = GRPCClient(endpoint: endpoint)
            await expectStatus(.unavailable) { try await client.unary(path + "Echo", [], timeout: .seconds(50)) }
            await client.close()
        }
    }

    @Test func aServerThatIsRestartedIsFoundAgain() async throws {
        let directory = try TemporaryDirectory()
        let endpoint = Endpoint.unix(path: directory.path + "/s.sock")
        let client = GRPCClient(endpoint: endpoint)
        for _ in 0..<3 {
            let server = try TestServer(endpoint: endpoint)
            var answer: [UInt8]?
            while answer == nil {
                do { answer = try await client.unary(path + "Echo", [1]) } catch let status as GRPCStatus {
                    try #require(status.code == .unavailable)
                    await Task.yield()
                }
            }
            await server.server.shutdown(grace: .zero)
            await expectStatus(.unavailable) { try await client.unary(path + "Echo", [1]) }
        }
        await client.close()
    }

    @Test func closingTheClientEndsItsCalls() async throws {
        try await TestServer.with { server in
            let client = GRPCClient(endpoint: server.endpoint)
            let call = Task { try await client.unary(path + "Slow", []) }
            await server.calls.reach { $0.started == 1 }
            await client.close()
            await expectStatus(.cancelled) { try await call.value }
        }
    }
}

/// Expects `body` to throw a `GRPCStatus` with `code`.
func expectStatus<Result>(
    _ code: GRPCStatus.Code, sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws -> Result
) async {
    do {
        _ = try await body()
        Issue.record("nothing was thrown", sourceLocation: sourceLocation)
    } catch {
        #expect((error as? GRPCStatus)?.code == code, "\(error)", sourceLocation: sourceLocation)
    }
}

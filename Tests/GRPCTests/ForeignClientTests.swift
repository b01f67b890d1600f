import Foundation
import GRPC
import Testing

/// Promises kept towards a client that shares no code with the server.
@Suite(.timeLimit(.minutes(5)))
struct ForeignClientTests {
    @Test func fiveHundredConcurrentCallsNeverHang() async throws {
        try await TestServer.with { server in
            let answers = try await ForeignClient.run("burst", server.target, "100", "500", "46000")
            #expect(answers.first?["calls"] == "50000")
            print("500 concurrent calls of 46 KB, 100 times: \(answers)")
        }
    }

    @Test func messagesOfSixteenMebibytesPassAndLargerOnesAreRefused() async throws {
        try await TestServer.with { server in
            let answers = try await ForeignClient.run("sizes", server.target)
            #expect(answers.map { $0["code"] } == ["OK", "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", "OK"])
            #expect(answers[0]["equal"] == "true")
            #expect(answers[2]["details"]?.description.contains("16777217") == true)
        }
    }

    @Test func aThousandCancelsLeaveAWatchOnTheConnectionAlone() async throws {
        try await TestServer.with { server in
            let answer = try #require(try await ForeignClient.run("cancels", server.target, "1000").first)
            #expect(answer["heard"] == "SERVING NOT_SERVING SERVING NOT_SERVING")
            #expect(answer["alive"] == "true")
            #expect(Double(answer["seconds"]?.description ?? "").map { $0 < 10 } == true)
            // Every call that reached its handler was cancelled there.
            await server.calls.reach { $0.started == $0.cancelled }
            print("1,000 cancels: \(answer)")
        }
    }

    @Test func unknownMethodsAreNamed() async throws {
        try await TestServer.with { server in
            let answers = try await ForeignClient.run("unknown", server.target)
            #expect(answers.allSatisfy { $0["code"] == "UNIMPLEMENTED" })
            #expect(answers[0]["details"] == "method Nothing of service test.v1.Test is not implemented")
            #expect(answers[1]["details"] == "unknown service no.such.Service (method Method)")
        }
    }

    @Test func aPassedDeadlineCancelsTheHandler() async throws {
        try await TestServer.with { server in
            // On a busy machine a short deadline may pass before the handler has begun.
            var timeout = 0.2
            repeat {
                let answers = try await ForeignClient.run("deadline", server.target, "\(timeout)")
                #expect(answers.first?["code"] == "DEADLINE_EXCEEDED")
                timeout *= 2
            } while server.calls.now.started == 0
            await server.calls.reach { $0.cancelled == $0.started }
        }
    }

    @Test func aClientThatVanishesCancelsItsHandler() async throws {
        try await TestServer.with { server in
            let client = try ForeignClient(["hang", server.target])
            for try await answer in client.answers {
                #expect(answer["started"] == "true")
                break
            }
            kill(client.process.processIdentifier, SIGKILL)
            await server.calls.reach { $0.started == 1 && $0.cancelled == 1 }
            _ = await client.exitStatus()
        }
    }

    @Test func metadataAndStatusMessagesArriveUnchanged() async throws {
        try await TestServer.with { server in
            let answers = try await ForeignClient.run("metadata", server.target)
            #expect(
                answers[0]["reply"] == "x-first=1 x-twice=a x-twice=b x-raw-bin=AP8H deadline=true method=/test.v1.Test/Context")
            #expect(answers[1] == ["code": "FAILED_PRECONDITION", "details": "naïve – 日本"])
            #expect(answers[2]["code"] == "FAILED_PRECONDITION")
            #expect(answers[2]["details"]?.description.hasSuffix("… (cut)") == true)
        }
    }

    @Test func anyAuthorityIsServed() async throws {
        try await TestServer.with { server in
            let answers = try await ForeignClient.run("authorities", server.target)
            #expect(answers.count == 4 && answers.allSatisfy { $0["code"] == "OK" })
        }
    }

    @Test(arguments: ["localhost", "%2Frun%2Fx.sock", ""])
    func anyAuthorityOnTheWireIsServed(authority: String) async throws {
        try await TestServer.with { server in
            let answers = try await ForeignClient.run("bare", server.target, authority)
            #expect(answers.first == ["answered": "true", "ended": "trailers"])
        }
    }

    @Test func aCallWithoutAnyAuthorityIsRefusedAlone() async throws {
        // The C core insists on :authority or host; RFC 9113 lets clients leave both out, none is known to.
        try await TestServer.with { server in
            let answers = try await ForeignClient.run("bare", server.target, "-")
            #expect(answers.first == ["answered": "false", "ended": "trailers"])
        }
    }

    @Test func healthIsKnownPerService() async throws {
        try await TestServer.with { server in
            let answers = try await ForeignClient.run("health", server.target)
            #expect(
                answers.map { $0["status"] ?? $0["code"] } == ["SERVING", "SERVING", "NOT_FOUND", "INVALID_ARGUMENT", "SERVICE_UNKNOWN"])
        }
    }

    @Test func slowReadersHoldTheHandlerBackAndLoseNothing() async throws {
        try await TestServer.with { server in
            let answers = try await ForeignClient.run("streams", server.target, "20000")
            #expect(answers[0] == ["count": "20000", "ordered": "true"])
            #expect(answers[1]["streams"] == "500")
        }
    }

    @Test func garbageHarmsNobodyElse() async throws {
        try await TestServer.with { server in
            let answers = try await ForeignClient.run("garbage", server.target)
            #expect(answers.first?["code"] == "OK")
        }
    }

    @Test func tcpIsServedToo() async throws {
        let server = try TestServer(endpoint: .tcp(host: "127.0.0.1", port: 0))
        let answers = try await ForeignClient.run("health", server.target)
        #expect(answers.first?["status"] == "SERVING")
        let garbage = try await ForeignClient.run("garbage", server.target)
        #expect(garbage.first?["code"] == "OK")
        await server.server.shutdown(grace: .zero)
    }

    @Test func watchersHearTheShutdownAndDoNotDelayIt() async throws {
        let server = try TestServer()
        let client = try ForeignClient(["watch", server.target])
        var heard: [String] = []
        var shutdown: Task<Void, Never>?
        for try await answer in client.answers {
            heard.append((answer["status"] ?? answer["code"])?.description ?? "")
            if shutdown == nil { shutdown = Task { await server.server.shutdown(grace: .seconds(3600)) } }
        }
        #expect(heard == ["SERVING", "NOT_SERVING", "UNAVAILABLE"])
        await shutdown?.value
    }
}

import Concurrency
import Errors
import Foundation
import Testing

@testable import QemuGuestAgent

@Suite(.timeLimit(.minutes(1))) struct QemuAgentTests {
    private func agent(_ fake: FakeAgent) -> QemuAgent {
        QemuAgent(socket: fake.path, pool: BlockingPool("guest agents", threads: 4), replies: LargeReplies())
    }

    private func code(_ body: () async throws -> Void) async -> SwiftletError.Code? {
        do {
            try await body()
            return nil
        } catch {
            return (error as? SwiftletError)?.code
        }
    }

    @Test func aProcessHasItsArgumentsInputOutputsAndCode() async throws {
        let fake = try FakeAgent { line in
            if line.contains("guest-exec-status") {
                return Array(#"{"return": {"exited": true, "exitcode": 3, "out-data": "aGk=", "err-data": "bm8K"}}"#.utf8) + [10]
            }
            return FakeAgent.synchronized(line) ?? Array(#"{"return": {"pid": 42}}"#.utf8) + [10]
        }
        let outcome = try await agent(fake).run(["/bin/x", "a b", "\"$c\""], input: Array("in".utf8), within: .seconds(5))
        #expect(outcome == QemuAgent.Outcome(exitCode: 3, output: Array("hi".utf8), errorOutput: Array("no\n".utf8), isCut: false))
        let submitted = try #require(fake.asked.first { $0.contains("\"guest-exec\"") })
        #expect(submitted.contains(#""arg":["a b","\"$c\""]"#) && submitted.contains(#""input-data":"aW4=""#))
    }

    @Test func staleAnswersBeforeTheSynchronizationArePassedOver() async throws {
        let fake = try FakeAgent { line in
            FakeAgent.synchronized(line).map { Array("{\"return\": {}}\nnonsense\n".utf8) + [0xFF] + Array("{\"return\": 0}\n".utf8) + $0 }
                ?? Array("{\"return\": {}}\n".utf8)
        }
        try await agent(fake).ping(within: .seconds(5))
    }

    @Test func whatTheAgentRefusesIsSaidInItsWords() async throws {
        let fake = try FakeAgent { line in
            FakeAgent.synchronized(line) ?? Array(#"{"error": {"class": "GenericError", "desc": "no \u001bsuch file"}}"#.utf8) + [10]
        }
        let error = await #expect(throws: SwiftletError.self) { _ = try await agent(fake).run(["/x"], within: .seconds(5)) }
        #expect(error?.code == .failedPrecondition && error?.message.contains("such file") == true)
        #expect(error?.message.contains("\u{1b}") == false)
    }

    @Test(arguments: ["", "{}", "[", "null", "{\"return\": 5}", String(repeating: "[", count: 50_000), "{\"return\": {\"pid\": 1e99}}"])
    func nonsenseIsAnError(_ reply: String) async throws {
        let fake = try FakeAgent { FakeAgent.synchronized($0) ?? Array(reply.utf8) + [10] }
        #expect(await code { _ = try await agent(fake).run(["/x"], within: .seconds(5)) } == .dataLoss)
    }

    @Test func aReplyWithoutEndIsCutOff() async throws {
        let fake = try FakeAgent { FakeAgent.synchronized($0) ?? [UInt8](repeating: 0x20, count: 11 << 20) }
        #expect(await code { try await agent(fake).ping(within: .seconds(20)) } == .resourceExhausted)
    }

    /// A reply to the end of a process, with one thing more in it.
    private static func end(_ rest: String) -> [UInt8] {
        Array(#"{"return": {"exited": true, "exitcode": 0, "out-data": "aGk="\#(rest)}}"#.utf8) + [10]
    }

    /// - Returns: the code that a process is run with, whose end is told by `reply`.
    private func outcome(
        _ reply: [UInt8], _ replies: LargeReplies = LargeReplies(), within timeout: Duration = .seconds(20)
    ) async throws -> SwiftletError.Code? {
        let fake = try FakeAgent { line in
            if line.contains("guest-exec-status") { return reply }
            return FakeAgent.synchronized(line) ?? Array("{\"return\": {\"pid\": 42}}\n".utf8)
        }
        let agent = QemuAgent(socket: fake.path, pool: BlockingPool("guest agents", threads: 4), replies: replies)
        return await code { _ = try await agent.run(["/x"], within: timeout) }
    }

    @Test func aReplyOfManyElementsIsNotDecoded() async throws {
        func many(_ element: String, _ count: Int) -> [UInt8] {
            Self.end(#", "x": ["# + Array(repeating: element, count: count).joined() + "1]")
        }
        #expect(try await outcome(many("1,", 900)) == nil)
        for element in ["1,", "[1],", "{\"a\": 1},", "\"\\\\\","] {
            let refused = try await outcome(many(element, 1100))
            #expect(refused == .dataLoss, "\(element)")
        }
        // Text may be anything.
        let text = String(repeating: #"[{,\"\\"#, count: 2000)
        #expect(try await outcome(Self.end(#", "x": "\#(text)""#)) == nil)
    }

    @Test func onlyWhatAProcessHasWrittenMayBeLarge() async throws {
        let large = #", "x": "\#(String(repeating: "x", count: 100 << 10))""#
        let fake = try FakeAgent { FakeAgent.synchronized($0) ?? Array(#"{"return": {}\#(large)}"#.utf8) + [10] }
        #expect(await code { try await agent(fake).ping(within: .seconds(20)) } == .resourceExhausted)
        // Their places are given back, also after failures.
        let replies = LargeReplies()
        for _ in 0..<5 {
            #expect(try await outcome(Self.end(large), replies) == nil)
            #expect(try await outcome(Self.end(large + #", "y": nonsense"#), replies) == .dataLoss)
        }
    }

    @Test func largeRepliesWaitForPlacesAndSmallOnesDoNot() async throws {
        let large = Self.end(#", "x": "\#(String(repeating: "x", count: 100 << 10))""#)
        for places in [\LargeReplies.reading, \.decoding] {
            let replies = LargeReplies()
            var taken: [ReplyPlaces.Place] = []
            while let place = try? replies[keyPath: places].take(by: .now) { taken.append(place) }
            #expect(taken.count == (places == \.reading ? 8 : 2))
            #expect(try await outcome(large, replies, within: .seconds(2)) == .deadlineExceeded)
            #expect(try await outcome(Self.end(""), replies) == nil)
            taken = []
            #expect(try await outcome(large, replies) == nil)
        }
    }

    @Test func anAgentThatIsNotThereOrHangsOrLeavesIsSaidInTime() async throws {
        let silent = try FakeAgent { _ in [] }
        let start = ContinuousClock.now
        #expect(await code { try await agent(silent).ping(within: .milliseconds(200)) } == .deadlineExceeded)
        #expect(ContinuousClock.now - start < .seconds(5))
        let leaving = try FakeAgent { _ in nil }
        #expect(await code { try await agent(leaving).ping(within: .seconds(5)) } == .unavailable)
        let absent = QemuAgent(socket: "/nonexistent/port", pool: BlockingPool("guest agents", threads: 1), replies: LargeReplies())
        #expect(await code { try await absent.ping(within: .seconds(5)) } == .unavailable)
    }

    @Test func whoWaitsForTheirTurnAtAnAgentThatHangsWaitsNoLongerThanTheirOwnTime() async throws {
        let silent = try FakeAgent { _ in [] }
        let agent = agent(silent)
        let first = Task { await code { try await agent.ping(within: .seconds(8)) } }
        try await Task.sleep(for: .milliseconds(100))
        let start = ContinuousClock.now
        #expect(await code { _ = try await agent.run(["/x"], within: .milliseconds(300)) } == .deadlineExceeded)
        #expect(ContinuousClock.now - start < .seconds(4))
        #expect(await first.value == .deadlineExceeded)
    }

    @Test func aProcessThatOutlivesItsTimeIsKilled() async throws {
        let fake = try FakeAgent { line in
            if line.contains("guest-exec-status") { return Array("{\"return\": {\"exited\": false}}\n".utf8) }
            return FakeAgent.synchronized(line) ?? Array("{\"return\": {\"pid\": 42}}\n".utf8)
        }
        #expect(await code { _ = try await agent(fake).run(["sleep", "9"], within: .seconds(1)) } == .deadlineExceeded)
        #expect(fake.asked.contains { $0.contains("\"kill\"") && $0.contains("\"42\"") })
    }

    @Test func tooMuchInputIsRefused() async throws {
        let fake = try FakeAgent { FakeAgent.synchronized($0) ?? [] }
        let input = [UInt8](repeating: 0, count: 128 << 10)
        #expect(await code { _ = try await agent(fake).run(["cat"], input: input, within: .seconds(5)) } == .invalidArgument)
    }
}

import Errors
import TTRPC
import Testing

@Suite struct TTRPCCallsTests {
    private func answer(_ stream: UInt32) -> TTRPCFrame {
        TTRPCFrame(stream: stream, kind: .response, payload: TTRPCResponse(.success([1])).encoded)
    }

    @Test func answersFindTheirCallsInAnyOrder() throws {
        var calls = TTRPCCalls<String>()
        let first = try calls.begin("first")
        let second = try calls.begin("second")
        #expect(first % 2 == 1 && second > first)
        #expect(try calls.receive(answer(second))?.call == "second")
        #expect(try calls.receive(answer(first))?.call == "first")
        #expect(calls.count == 0)
    }

    @Test func anAnswerToAnAbandonedCallIsPassedOver() throws {
        var calls = TTRPCCalls<String>()
        let stream = try calls.begin("call")
        #expect(calls.abandon(stream) == "call")
        #expect(try calls.receive(answer(stream)) == nil)
    }

    @Test func framesThatNoServerSendsAreErrors() throws {
        var calls = TTRPCCalls<String>()
        _ = try calls.begin("call")
        #expect(throws: SwiftletError.self) { try calls.receive(answer(3)) }
        #expect(throws: SwiftletError.self) { try calls.receive(answer(2)) }
        #expect(throws: SwiftletError.self) { try calls.receive(TTRPCFrame(stream: 1, kind: .request, payload: [])) }
        #expect(throws: SwiftletError.self) { try calls.receive(TTRPCFrame(stream: 1, kind: .data, payload: [])) }
    }

    @Test func closingHandsEveryCallBackAndRefusesNewOnes() throws {
        var calls = TTRPCCalls<String>()
        _ = try calls.begin("one")
        _ = try calls.begin("two")
        #expect(Set(calls.close(SwiftletError(.unavailable, "gone"))) == ["one", "two"])
        #expect(throws: SwiftletError.self) { try calls.begin("three") }
        #expect(calls.close(SwiftletError(.unavailable, "again")).isEmpty)
    }

    @Test func aServerRefusesStreamsThatAreEvenOrRepeatedOrTooMany() throws {
        let request = TTRPCRequest(service: "s", method: "m", payload: []).encoded
        func frame(_ stream: UInt32) -> TTRPCFrame { TTRPCFrame(stream: stream, kind: .request, payload: request) }
        var requests = TTRPCRequests(limit: 1)
        guard case .run = try requests.receive(frame(1)) else {
            Issue.record("the first call was not run")
            return
        }
        guard case .refuse(3, let error) = try requests.receive(frame(3)) else {
            Issue.record("the call beyond the limit was run")
            return
        }
        #expect(error.code == .resourceExhausted)
        requests.finish(1)
        guard case .run = try requests.receive(frame(5)) else {
            Issue.record("the call after a finished one was not run")
            return
        }
        #expect(throws: SwiftletError.self) { try requests.receive(frame(5)) }
        #expect(throws: SwiftletError.self) { try requests.receive(frame(8)) }
    }
}

import Errors
import TTRPC
import Testing

@Suite struct TTRPCEnvelopeTests {
    @Test func aRequestSurvivesTheWire() throws {
        let request = TTRPCRequest(service: "test.v1.Service", method: "Wait", payload: [1, 2, 3], timeout: 5_000_000_000)
        #expect(try TTRPCRequest(encoded: request.encoded) == request)
    }

    /// As protoc encodes `service: "a" method: "b" payload: "c" timeout_nano: 300 metadata { key: "k" value: "v" }`.
    @Test func aRequestOfAnotherImplementationIsUnderstood() throws {
        let bytes: [UInt8] = [0x0a, 1, 0x61, 0x12, 1, 0x62, 0x1a, 1, 0x63, 0x20, 0xac, 0x02, 0x2a, 6, 0x0a, 1, 0x6b, 0x12, 1, 0x76]
        #expect(try TTRPCRequest(encoded: bytes) == TTRPCRequest(service: "a", method: "b", payload: [0x63], timeout: 300))
    }

    @Test func errorsKeepTheirCodeAndTheirWholeDescription() throws {
        let codes: [SwiftletError.Code] = [
            .cancelled, .unknown, .invalidArgument, .deadlineExceeded, .notFound, .alreadyExists, .permissionDenied, .resourceExhausted,
            .failedPrecondition, .aborted, .outOfRange, .unimplemented, .internal, .unavailable, .dataLoss, .unauthenticated,
        ]
        for code in codes {
            let error = SwiftletError(code, "step", cause: SwiftletError(.unknown, "why"))
            let decoded = try TTRPCResponse(encoded: TTRPCResponse(.failure(error)).encoded)
            guard case .failure(let received) = decoded.result else {
                Issue.record("\(code) became a success")
                continue
            }
            #expect(received.code == code)
            #expect(received.message == "step: why")
        }
    }

    @Test func anUnknownCodeIsUnknownAndALongMessageIsCut() throws {
        let long = SwiftletError(.internal, String(repeating: "x", count: 100_000))
        guard case .failure(let cut) = try TTRPCResponse(encoded: TTRPCResponse(.failure(long)).encoded).result else {
            Issue.record("a failure became a success")
            return
        }
        #expect(cut.message.utf8.count == TTRPCResponse.maximumMessage)
        // status { code: 99 }
        guard case .failure(let strange) = try TTRPCResponse(encoded: [0x0a, 2, 0x08, 99]).result else {
            Issue.record("a failure became a success")
            return
        }
        #expect(strange.code == .unknown)
    }

    @Test(
        arguments: [[0x0a, 0x05, 1], [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], [0xff], [0x00], [0x0b]]
            as [[UInt8]])
    func lyingLengthsAndTagsAreErrors(bytes: [UInt8]) {
        #expect(throws: SwiftletError.self) { try TTRPCRequest(encoded: bytes) }
        #expect(throws: SwiftletError.self) { try TTRPCResponse(encoded: bytes) }
    }
}

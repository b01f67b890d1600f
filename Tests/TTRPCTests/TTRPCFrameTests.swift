import Errors
import Support
import TTRPC
import Testing

@Suite struct TTRPCFrameTests {
    @Test func aFrameHasTheBytesThatContainerdsProtocolDocuments() throws {
        let frame = TTRPCFrame(stream: 3, kind: .request, payload: [0xaa, 0xbb])
        #expect(try frame.encoded() == [0, 0, 0, 2, 0, 0, 0, 3, 1, 0, 0xaa, 0xbb])
    }

    @Test(arguments: [1, 2, 9, 10, 11, 4096]) func framesComeOutWholeHoweverTheirBytesArrive(pieceLength: Int) throws {
        let frames = (0..<20).map { index in
            TTRPCFrame(
                stream: UInt32(index * 2 + 1), kind: .response, flags: 0, payload: [UInt8](repeating: UInt8(index), count: index * 37))
        }
        let bytes = try frames.flatMap { try $0.encoded() }
        var decoder = TTRPCFrameDecoder()
        var decoded: [TTRPCFrame] = []
        for start in stride(from: 0, to: bytes.count, by: pieceLength) {
            decoder.append(bytes[start..<min(bytes.count, start + pieceLength)])
            while let frame = try decoder.next() { decoded.append(frame) }
        }
        #expect(decoded == frames)
    }

    @Test func aLengthBeyondTheLimitIsRefusedBeforeAnyPayloadIsAwaited() {
        var decoder = TTRPCFrameDecoder()
        decoder.append([0x00, 0x40, 0x00, 0x01, 0, 0, 0, 1, 1, 0])
        #expect(throws: SwiftletError.self) { try decoder.next() }
    }

    @Test func aPayloadOfTheLimitPassesAndOneByteMoreDoesNot() throws {
        let largest = TTRPCFrame(stream: 1, kind: .request, payload: [UInt8](repeating: 7, count: TTRPCFrame.maximumPayload))
        var decoder = TTRPCFrameDecoder()
        decoder.append(try largest.encoded())
        #expect(try decoder.next() == largest)
        let tooLarge = TTRPCFrame(stream: 1, kind: .request, payload: [UInt8](repeating: 7, count: TTRPCFrame.maximumPayload + 1))
        #expect(throws: SwiftletError.self) { try tooLarge.encoded() }
    }

    @Test func randomBytesNeverCrashTheDecoders() {
        var random = SplitMix(variable: "TTRPC_SEED")
        // Beforehand: after a crash nothing can be said.
        print("random bytes: TTRPC_SEED=\(random.seed)")
        for _ in 0..<2000 {
            let bytes = (0..<Int.random(in: 0...64, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            var frames = TTRPCFrameDecoder()
            frames.append(bytes)
            while let frame = try? frames.next() { _ = frame }
            _ = try? TTRPCRequest(encoded: bytes)
            _ = try? TTRPCResponse(encoded: bytes)
        }
    }
}

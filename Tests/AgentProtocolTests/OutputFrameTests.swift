import AgentProtocol
import Errors
import Linux
import Support
import Testing

@Suite struct OutputFrameTests {
    @Test func framesSurviveTheWireByteByByte() throws {
        let frames = [
            OutputFrame(source: .stdout, payload: Array("hello\n".utf8)),
            OutputFrame(source: .stderr, payload: [UInt8](repeating: 0, count: OutputFrame.maximumPayload)),
            OutputFrame(source: .stdout, end: true, payload: []),
        ]
        var decoder = OutputFrameDecoder()
        var decoded: [OutputFrame] = []
        for byte in frames.flatMap(\.encoded) {
            decoder.append([byte])
            while let frame = try decoder.next() { decoded.append(frame) }
        }
        #expect(decoded == frames)
        #expect(decoder.isAtBoundary)
    }

    @Test(
        arguments: [
            [0, 0, 0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0, 0, 0], [1, 2, 0, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 1, 0, 1],
            [1, 0, 0, 0, 255, 255, 255, 255],
        ] as [[UInt8]])
    func whatIsNoFrameIsAnError(header: [UInt8]) {
        var decoder = OutputFrameDecoder()
        decoder.append(header)
        #expect(throws: SwiftletError.self) { try decoder.next() }
    }

    @Test func randomBytesNeverCrashTheDecoder() {
        var random = SplitMix(variable: "OUTPUT_SEED")
        // Beforehand: after a crash nothing can be said.
        print("random bytes: OUTPUT_SEED=\(random.seed)")
        for _ in 0..<2000 {
            let bytes = (0..<Int.random(in: 0...64, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            var decoder = OutputFrameDecoder()
            decoder.append(bytes)
            while let frame = try? decoder.next() { _ = frame }
        }
    }

    @Test func acknowledgementsSurviveTheWire() {
        var input = ByteQueue()
        let acknowledgement = OutputAcknowledgement(stdout: 1 << 40, stderr: 3)
        input.append(acknowledgement.encoded.dropLast())
        #expect(OutputAcknowledgement(from: &input) == nil)
        input.append(acknowledgement.encoded.suffix(1))
        #expect(OutputAcknowledgement(from: &input) == acknowledgement)
        #expect(input.isEmpty)
    }
}

import AgentProtocol
import Errors
import Testing

@testable import GuestAgent

@Suite struct OutputBufferTests {
    private func append(_ buffer: inout OutputBuffer, _ source: OutputSource, _ text: String) {
        Array(text.utf8).withUnsafeBytes { buffer.append(source, $0) }
    }

    private func drain(_ buffer: inout OutputBuffer) -> [String] {
        var frames: [String] = []
        while let frame = buffer.nextFrame() {
            frames.append("\(frame.source.rawValue)\(frame.end ? "!" : ":")" + String(decoding: frame.payload, as: UTF8.self))
        }
        return frames
    }

    @Test func bytesComeOutInTheOrderTheyWentInOverBothSources() {
        var buffer = OutputBuffer()
        append(&buffer, .stdout, "a")
        append(&buffer, .stdout, "b")
        append(&buffer, .stderr, "c")
        append(&buffer, .stdout, "d")
        buffer.end(.stdout)
        #expect(drain(&buffer) == ["1:ab", "2:c", "1:d", "1!"])
        append(&buffer, .stderr, "e")
        buffer.end(.stderr)
        #expect(drain(&buffer) == ["2:e", "2!"])
        #expect(!buffer.isDone)
    }

    @Test func whatIsNotAcknowledgedIsSentAgainAndTheRestIsNot() throws {
        var buffer = OutputBuffer()
        append(&buffer, .stdout, "hello world")
        append(&buffer, .stderr, "oops")
        _ = drain(&buffer)
        try buffer.acknowledge(OutputAcknowledgement(stdout: 6, stderr: 0))
        try buffer.restart(stdout: 6, stderr: 2)
        #expect(drain(&buffer) == ["1:world", "2:ps"])
        #expect(throws: SwiftletError.self) { try buffer.restart(stdout: 5, stderr: 2) }
        #expect(throws: SwiftletError.self) { try buffer.restart(stdout: 12, stderr: 2) }
    }

    @Test func bytesAppendedToAFrameThatWasSentFollowAlone() {
        var buffer = OutputBuffer()
        append(&buffer, .stdout, "one")
        #expect(drain(&buffer) == ["1:one"])
        append(&buffer, .stdout, "two")
        #expect(drain(&buffer) == ["1:two"])
    }

    /// Linux's vsock cuts what is longer than 64 KiB into another packet.
    @Test func aFrameThatGrowsFitsIntoAPacketWithItsHeader() {
        var buffer = OutputBuffer()
        for count in [40_000, 25_530, 65_528, 1] {
            [UInt8](repeating: 0, count: count).withUnsafeBytes { buffer.append(.stdout, $0) }
        }
        var (frames, bytes) = (0, 0)
        while let frame = buffer.nextFrame() {
            #expect(frame.encoded.count <= 65_536)
            frames += 1
            bytes += frame.payload.count
        }
        #expect(frames == 4 && bytes == 131_059)
    }

    @Test func itIsDoneOnceBothEndsAreSentAndEverythingIsAcknowledged() throws {
        var buffer = OutputBuffer()
        append(&buffer, .stdout, "x")
        buffer.end(.stdout)
        buffer.end(.stderr)
        #expect(!buffer.isDone)
        #expect(drain(&buffer) == ["1:x", "1!", "2!"])
        #expect(!buffer.isDone)
        try buffer.acknowledge(OutputAcknowledgement(stdout: 1, stderr: 0))
        #expect(buffer.isDone)
        try buffer.restart(stdout: 1, stderr: 0)
        #expect(drain(&buffer) == ["1!", "2!"])
        #expect(buffer.isDone)
    }

    @Test func acknowledgementsOfWhatWasNeverSentAreErrors() throws {
        var buffer = OutputBuffer()
        append(&buffer, .stdout, "xyz")
        #expect(throws: SwiftletError.self) { try buffer.acknowledge(OutputAcknowledgement(stdout: 1, stderr: 0)) }
        _ = buffer.nextFrame()
        try buffer.acknowledge(OutputAcknowledgement(stdout: 2, stderr: 0))
        #expect(throws: SwiftletError.self) { try buffer.acknowledge(OutputAcknowledgement(stdout: 1, stderr: 0)) }
    }

    @Test func tinyWritesToAlternatingSourcesStayWithinTheLimit() {
        var buffer = OutputBuffer(capacity: 64 << 10)
        var appended = 0
        while buffer.room >= 1 {
            append(&buffer, appended % 2 == 0 ? .stdout : .stderr, "x")
            appended += 1
        }
        // Each costs its chunk too, so far fewer than the capacity fit.
        #expect(appended < 1100)
    }

    /// Against a model that is a plain string per source.
    @Test func aRandomWalkLosesAndDuplicatesNothing() throws {
        for _ in 0..<50 {
            var buffer = OutputBuffer(capacity: 30_000)
            var written: [OutputSource: [UInt8]] = [.stdout: [], .stderr: []]
            var received: [OutputSource: [UInt8]] = [.stdout: [], .stderr: []]
            var counter: UInt8 = 0
            for _ in 0..<200 {
                let source: OutputSource = Bool.random() ? .stdout : .stderr
                switch Int.random(in: 0..<10) {
                case 0..<4:
                    let count = Int.random(in: 1...(Bool.random() ? 10 : 2000))
                    guard buffer.room >= count else { continue }
                    let bytes = (0..<count).map { _ in
                        counter &+= 1; return counter
                    }
                    written[source]? += bytes
                    bytes.withUnsafeBytes { buffer.append(source, $0) }
                case 4..<8:
                    if let frame = buffer.nextFrame() { received[frame.source]? += frame.payload }
                case 8:
                    try buffer.acknowledge(
                        OutputAcknowledgement(stdout: UInt64(received[.stdout]?.count ?? 0), stderr: UInt64(received[.stderr]?.count ?? 0)))
                default:
                    // The host comes back with less than was sent, but with what it acknowledged.
                    for source in OutputSource.allCases {
                        let acknowledged = Int(buffer.acknowledged(source))
                        received[source] = Array(
                            (received[source] ?? []).prefix(Int.random(in: acknowledged...(received[source]?.count ?? 0))))
                    }
                    try buffer.restart(stdout: UInt64(received[.stdout]?.count ?? 0), stderr: UInt64(received[.stderr]?.count ?? 0))
                }
            }
            while let frame = buffer.nextFrame() { received[frame.source]? += frame.payload }
            #expect(received == written)
        }
    }
}

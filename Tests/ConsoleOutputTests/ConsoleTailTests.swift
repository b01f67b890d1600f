import Foundation
import Runtime
import Support
import Testing

@testable import ConsoleOutput

@Suite(.timeLimit(.minutes(2))) struct ConsoleTailTests {
    private func read(_ tail: ConsoleTail, _ count: Int) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count, let more = try await tail.read() { bytes += more }
        return bytes
    }

    @Test func theLast64KiBComeFirstAndThenWhatIsWritten() async throws {
        let ground = try ConsoleGround()
        let past = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 / 251) }
        ground.write(past)
        let end = OutputEnd()
        let tail = try await ConsoleTail.open(ground.console, until: end)
        #expect(try await read(tail, 64 << 10) == past.suffix(64 << 10))
        async let next = tail.read()
        try await Task.sleep(for: .milliseconds(30))
        ground.write("login: ")
        #expect(try await next == Array("login: ".utf8))
        ground.write("bye")
        end.come()
        #expect(try await tail.read() == Array("bye".utf8))
        #expect(try await tail.read() == nil)
    }

    @Test func aReaderIsWokenByTheEnd() async throws {
        let ground = try ConsoleGround()
        let end = OutputEnd()
        let tail = try await ConsoleTail.open(ground.console, until: end)
        async let nothing = tail.read()
        try await Task.sleep(for: .milliseconds(30))
        end.come()
        #expect(try await nothing == nil)
    }

    @Test func whoReadsTooSlowlyIsToldHowMuchWasLost() async throws {
        let ground = try ConsoleGround()
        let output = try await ground.output()
        let tail = try await ConsoleTail.open(ground.console, until: OutputEnd())
        ground.write("first")
        #expect(try await tail.read() == Array("first".utf8))
        let line = [UInt8](repeating: 0x61, count: 1023) + [0x0A]
        ground.write([UInt8](repeatElement(line, count: 10 << 10).joined()))
        // The log does not wait for the client.
        try await output.drained("c", hasEnded: true)
        let notice = String(decoding: try #require(try await tail.read()), as: UTF8.self)
        // The block that "first" ends in is released with what it has seen of it.
        let lost = try #require(Int(notice.split(separator: " ")[1]))
        #expect(notice.hasSuffix(" bytes of output were lost: this client reads too slowly]\r\n"))
        let rest = try await read(tail, (10 << 20) - lost)
        #expect(rest.count == (10 << 20) - lost)
        #expect(rest.suffix(1024) == line)
        #expect(lost > 5 << 20)
    }
}

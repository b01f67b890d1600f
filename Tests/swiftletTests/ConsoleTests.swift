import Foundation
import Synchronization
import Testing

@testable import swiftlet

@Suite struct ConsoleTextTests {
    private func shown(_ pieces: [[UInt8]]) -> String {
        var text = ConsoleText()
        return pieces.map { text.printable($0) }.joined()
    }

    @Test(
        arguments: [
            ("one\ttwo\nthree", "one\ttwo\nthree"), ("one\r\ntwo\r\r\nthree\r", "one\ntwo\nthree"), ("50%\r60%", "50%?60%"),
            ("\u{1B}[2J\u{1B}]0;title\u{07}", "?[2J?]0;title?"), ("a\u{08}\u{0B}\u{7F}\u{9B}31m", "a????31m"), ("\u{202E}gnp", "?gnp"),
            ("größe 本 🙂", "größe 本 🙂"),
        ])
    func aTerminalIsShownNoControlsButNewlinesAndTabs(_ text: String, _ expected: String) {
        let bytes = Array(text.utf8)
        #expect(shown([bytes]) == expected)
        // However the bytes come.
        for size in 1...3 {
            let pieces = stride(from: 0, to: bytes.count, by: size).map { Array(bytes[$0..<min($0 + size, bytes.count)]) }
            #expect(shown(pieces) == expected)
        }
    }

    @Test func whatIsNoTextIsReplacedAndHoldsUpNothing() {
        #expect(shown([[0x61, 0x9B, 0x62, 0xFF], [0x63]]) == "a\u{FFFD}b\u{FFFD}c")
        #expect(shown([[0xE2, 0x82], [0x0A]]) == "\u{FFFD}\n")
        #expect(shown([[0x80, 0x80, 0x80], [0x80]]) == "\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}")
    }
}

@Suite struct ConsoleReaderTests {
    private final class Seen: Sendable {
        private let bytes = Mutex<[UInt8]>([])
        var text: String { bytes.withLock { String(decoding: $0, as: UTF8.self) } }
        func take(_ more: [UInt8]) { bytes.withLock { $0 += more } }
    }

    private func eventually(_ condition: () -> Bool) async throws {
        let end = ContinuousClock.now + .seconds(20)
        while !condition(), .now < end { try await Task.sleep(for: .milliseconds(10)) }
        #expect(condition())
    }

    /// As swiftletd does it when a console is too long.
    private func cut(_ path: String, to kept: Int, and more: String) throws {
        let end = try Data(contentsOf: URL(fileURLWithPath: path)).suffix(kept)
        let file = try #require(FileHandle(forWritingAtPath: path))
        try file.truncate(atOffset: 0)
        try file.write(contentsOf: end + Data(more.utf8))
        try file.close()
    }

    @Test func aConsoleThatIsCutIsFollowedWhereItWas() async throws {
        try await withTemporaryDirectory { directory in
            let path = directory + "/console.log"
            let lines = (1...20_000).map { "line \($0)\r\n" }.joined()
            try Data(lines.utf8).write(to: URL(fileURLWithPath: path))
            let reader = try ConsoleReader(path: path)
            let seen = Seen()
            let following = Task { try await reader.follow { seen.take($0) } }
            try await eventually { seen.text.utf8.count == lines.utf8.count }
            try cut(path, to: 65536, and: "more\r\n")
            try await eventually { seen.text.hasSuffix("more\r\n") }
            // What was read last is not in it any more.
            try cut(path, to: 0, and: "all is new\r\n")
            try await eventually { seen.text.hasSuffix("new\r\n") }
            reader.finish()
            try await following.value
            #expect(seen.text == lines + "more\r\nall is new\r\n")
        }
    }

    @Test func theLastOccurrenceCounts() {
        #expect(ConsoleReader.end(of: Array("ab".utf8), in: Array("abcabd".utf8)) == 5)
        #expect(ConsoleReader.end(of: Array("ab".utf8), in: Array("ab".utf8)) == 2)
        #expect(ConsoleReader.end(of: Array("aa".utf8), in: Array("aaa".utf8)) == 3)
        #expect(ConsoleReader.end(of: Array("ba".utf8), in: Array("aab".utf8)) == nil)
        #expect(ConsoleReader.end(of: [], in: [1]) == nil && ConsoleReader.end(of: [1], in: []) == nil)
    }

    @Test func aCancelledFollowerEndsAtOnce() async throws {
        try await withTemporaryDirectory { directory in
            try Data("boot".utf8).write(to: URL(fileURLWithPath: directory + "/console.log"))
            let reader = try ConsoleReader(path: directory + "/console.log")
            let following = Task { try await reader.follow { _ in } }
            following.cancel()
            try await following.value
        }
    }
}

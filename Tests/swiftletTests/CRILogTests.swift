import Foundation
import Testing

@testable import swiftlet

private func line(_ text: String) -> CRILogLine? { CRILogLine(Array(text.utf8)[...]) }

private let stamp = "2026-01-31T12:00:00.123456789Z"

@Suite struct CRILogLineTests {
    @Test func aLineHasItsTimeSourceTagAndContent() throws {
        let parsed = try #require(line("\(stamp) stderr F two  words "))
        #expect(Array(parsed.timestamp) == Array(stamp.utf8))
        #expect(parsed.source == .stderr)
        #expect(!parsed.isPartial)
        #expect(Array(parsed.content) == Array("two  words ".utf8))
    }

    @Test(arguments: ["\(stamp) stdout F ", "\(stamp) stdout F"])
    func anEmptyLineIsALine(_ text: String) throws {
        #expect(try #require(line(text)).content.isEmpty)
    }

    @Test func furtherTagsAreAllowed() throws {
        #expect(try #require(line("\(stamp) stdout P:x:y z")).isPartial)
    }

    @Test(arguments: [
        "", " ", "plain text of three words", "\(stamp) stdin F x", "\(stamp) stdout Q x", "\(stamp) stdout Full x", "\(stamp) stdout",
    ])
    func otherFormsAreRefused(_ text: String) {
        #expect(line(text) == nil)
    }
}

@Suite struct CRILogDecoderTests {
    private static let log = """
        \(stamp) stdout P one
        \(stamp) stderr F error
        \(stamp) stdout F  line
        no log line
        \(stamp) stdout F \n
        """

    /// stdout, stderr, malformed.
    private func decoded(_ bytes: [UInt8], piecesOf size: Int) -> [String] {
        var decoder = CRILogDecoder()
        var text = ["", "", ""]
        for start in stride(from: 0, to: bytes.count, by: size) {
            for piece in decoder.decode(Array(bytes[start..<min(start + size, bytes.count)])) {
                switch piece {
                case .output(.stdout, let content): text[0] += String(decoding: content, as: UTF8.self)
                case .output(.stderr, let content): text[1] += String(decoding: content, as: UTF8.self)
                case .malformed(let content): text[2] += String(decoding: content, as: UTF8.self)
                }
            }
        }
        return text
    }

    @Test(arguments: [1, 2, 7, 64, 10_000])
    func theOutputComesBackWhateverThePiecesRead(_ size: Int) {
        #expect(decoded(Array(Self.log.utf8), piecesOf: size) == ["one line\n\n", "error\n", "no log line\n"])
    }

    @Test func linesOfOneSourceComeTogether() {
        var decoder = CRILogDecoder()
        let log = "\(stamp) stdout F a\n\(stamp) stdout F b\n\(stamp) stderr F c\n\(stamp) stdout F d\n"
        #expect(
            decoder.decode(Array(log.utf8)) == [
                .output(.stdout, Array("a\nb\n".utf8)), .output(.stderr, Array("c\n".utf8)), .output(.stdout, Array("d\n".utf8)),
            ])
    }

    @Test func bytesThatAreNoTextPassUnchanged() {
        var decoder = CRILogDecoder()
        let content: [UInt8] = [0xFF, 0x00, 0x80]
        #expect(decoder.decode(Array("\(stamp) stdout P ".utf8) + content + [0x0A]) == [.output(.stdout, content)])
    }

    @Test func aLineWithoutEndDoesNotFillTheMemory() {
        var decoder = CRILogDecoder()
        let chunk = [UInt8](repeating: UInt8(ascii: "x"), count: 1 << 19)
        let pieces = (0..<8).flatMap { _ in decoder.decode(chunk) }
        #expect(pieces.count == 2)
    }
}

@Suite struct LogFollowerTests {
    private final class Collected: Sendable {
        let stream: AsyncStream<String>
        private let continuation: AsyncStream<String>.Continuation

        init() { (stream, continuation) = AsyncStream.makeStream() }

        func take(_ piece: CRILogDecoder.Piece) {
            guard case .output(_, let bytes) = piece else { return }
            continuation.yield(String(decoding: bytes, as: UTF8.self))
        }

        func end() { continuation.finish() }
    }

    private func append(_ text: String, to path: String) throws {
        if !FileManager.default.fileExists(atPath: path) { try Data().write(to: URL(fileURLWithPath: path)) }
        let file = try #require(FileHandle(forWritingAtPath: path))
        try file.seekToEnd()
        try file.write(contentsOf: Data("\(stamp) stdout F \(text)\n".utf8))
        try file.close()
    }

    @Test func aLogIsFollowedFromBeforeItsBirthOverItsRotationToItsEnd() async throws {
        try await withTemporaryDirectory { directory in
            let path = directory + "/web_0.log"
            let follower = try LogFollower(path: path)
            let collected = Collected()
            let following = Task {
                try await follower.follow { collected.take($0) }
                collected.end()
            }
            var lines = collected.stream.makeAsyncIterator()
            try append("one", to: path)
            #expect(await lines.next() == "one\n")
            try append("two", to: path)
            #expect(await lines.next() == "two\n")
            try FileManager.default.moveItem(atPath: path, toPath: path + ".1")
            try append("three", to: path)
            #expect(await lines.next() == "three\n")
            try append("four", to: path)
            follower.finish()
            #expect(await lines.next() == "four\n")
            #expect(await lines.next() == nil)
            try await following.value
        }
    }

    /// As swiftlet-streamd does it, several times between two looks; some files are the kubelet's, and compressed.
    @Test func aLogThatIsRotatedFasterThanItIsReadIsFollowedThroughAllOfItsFiles() async throws {
        try await withTemporaryDirectory { directory in
            let path = directory + "/web_0.log"
            try append("0", to: path)
            try Data("old".utf8).write(to: URL(fileURLWithPath: path + ".20250101-000000_000"))
            try Data("old".utf8).write(to: URL(fileURLWithPath: path + ".20250101-000001.gz"))
            let follower = try LogFollower(path: path)
            let collected = Collected()
            let following = Task {
                try await follower.follow { collected.take($0) }
                collected.end()
            }
            var lines = collected.stream.makeAsyncIterator()
            #expect(await lines.next() == "0\n")
            for number in 1...500 {
                // Every seventh by the kubelet, in the next second.
                let rotated = "20260131-\(100_000 + number / 7)" + (number.isMultiple(of: 7) ? "" : "_00\(number % 7)")
                try FileManager.default.moveItem(atPath: path, toPath: "\(path).\(rotated)")
                try append("\(number)", to: path)
            }
            follower.finish()
            var text = ""
            while let piece = await lines.next() { text += piece }
            let expected = (1...500).map { "\($0)\n" }.joined()
            #expect(text == expected)
            try await following.value
        }
    }

    @Test func cancellingEndsTheFollowing() async throws {
        try await withTemporaryDirectory { directory in
            let follower = try LogFollower(path: directory + "/never.log")
            let following = Task { try await follower.follow { _ in } }
            following.cancel()
            try await following.value
        }
    }

    @Test func aMissingLogIsAnError() async throws {
        try await withTemporaryDirectory { directory in
            let follower = try LogFollower(path: directory + "/none.log")
            await #expect(throws: (any Error).self) { try await follower.readOnce { _ in } }
        }
    }
}

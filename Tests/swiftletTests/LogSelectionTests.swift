import Foundation
import Testing

@testable import swiftlet

private func stamp(_ second: Int) -> String { "2026-01-31T12:00:\(second < 10 ? "0" : "")\(second).000000001Z" }

/// What is shown: of standard output, standard error, lines in other forms.
private final class Shown: Sendable {
    private let pieces: AsyncStream<CRILogDecoder.Piece>
    private let continuation: AsyncStream<CRILogDecoder.Piece>.Continuation

    init() { (pieces, continuation) = AsyncStream.makeStream() }

    func take(_ piece: CRILogDecoder.Piece) { continuation.yield(piece) }

    func texts() async -> [String] {
        continuation.finish()
        var texts = ["", "", ""]
        for await piece in pieces {
            switch piece {
            case .output(.stdout, let bytes): texts[0] += String(decoding: bytes, as: UTF8.self)
            case .output(.stderr, let bytes): texts[1] += String(decoding: bytes, as: UTF8.self)
            case .malformed(let bytes): texts[2] += String(decoding: bytes, as: UTF8.self)
            }
        }
        return texts
    }

    func next() async -> String? {
        for await case .output(_, let bytes) in pieces { return String(decoding: bytes, as: UTF8.self) }
        return nil
    }
}

private func shown(_ log: some Sequence<UInt8>, _ selection: LogSelection) async throws -> [String] {
    try await withTemporaryDirectory { directory in
        try Data(log).write(to: URL(fileURLWithPath: directory + "/web.log"))
        let shown = Shown()
        try await LogFollower(path: directory + "/web.log").readOnce(selection) { shown.take($0) }
        return await shown.texts()
    }
}

@Suite struct LogSelectionTests {
    /// Lines of two sources, some of several pieces, pieces of the other source between them, and one in another form.
    private static let log = """
        \(stamp(1)) stdout F one
        \(stamp(2)) stdout P tw
        \(stamp(3)) stderr P er
        \(stamp(4)) stdout P o-
        \(stamp(5)) stderr F ror
        no log line
        \(stamp(6)) stdout F end
        \(stamp(7)) stdout F:dropped swiftlet: 5 bytes dropped over the log's budget
        \(stamp(8)) stdout F three
        \(stamp(9)) stderr P under way\n
        """
    private static let dropped = "swiftlet: 5 bytes dropped over the log's budget\n"

    @Test(
        arguments: [
            (0, ["", "", ""]), (1, ["", "under way", ""]), (2, ["three\n", "under way", ""]), (3, ["\(dropped)three\n", "under way", ""]),
            (4, ["two-end\n\(dropped)three\n", "under way", ""]), (5, ["two-end\n\(dropped)three\n", "under way", "no log line\n"]),
            (6, ["two-end\n\(dropped)three\n", "error\nunder way", "no log line\n"]),
            (7, ["one\ntwo-end\n\(dropped)three\n", "error\nunder way", "no log line\n"]),
            (100, ["one\ntwo-end\n\(dropped)three\n", "error\nunder way", "no log line\n"]),
        ])
    func theLastLinesAreWholeWhateverStandsBetweenTheirPieces(_ lines: Int, _ expected: [String]) async throws {
        #expect(try await shown(Self.log.utf8, LogSelection(tail: lines)) == expected)
        // A line that is being written is not there yet.
        #expect(try await shown((Self.log + "2026-01-31T12:00:10Z stdout F ha").utf8, LogSelection(tail: lines)) == expected)
    }

    @Test func anEmptyLogHasNoLastLines() async throws {
        #expect(try await shown([UInt8](), LogSelection(tail: 3)) == ["", "", ""])
        #expect(try await shown(Array("half a line".utf8), LogSelection(tail: 3)) == ["", "", ""])
    }

    @Test func eachLineHasItsTimeOnce() async throws {
        #expect(
            try await shown(Self.log.utf8, LogSelection(timestamps: true)) == [
                "\(stamp(1)) one\n\(stamp(2)) two-end\n\(stamp(7)) \(Self.dropped)\(stamp(8)) three\n",
                "\(stamp(3)) error\n\(stamp(9)) under way", "no log line\n",
            ])
    }

    @Test(
        arguments: [
            (stamp(1), ["one\ntwo-end\n\(dropped)three\n", "error\nunder way", "no log line\n"]),
            ("2026-01-31T12:00:01.000000002Z", ["two-end\n\(dropped)three\n", "error\nunder way", "no log line\n"]),
            // Its first piece is a line's time.
            ("2026-01-31T13:00:03+01:00", ["\(dropped)three\n", "error\nunder way", "no log line\n"]),
            (stamp(4), ["\(dropped)three\n", "under way", ""]), (stamp(10), ["", "", ""]),
        ])
    func linesThatBeganSinceThenAreShownWhole(_ since: String, _ expected: [String]) async throws {
        let time = try #require(LogTime(since.utf8))
        #expect(try await shown(Self.log.utf8, LogSelection(since: time)) == expected)
    }

    @Test func theLastLinesSinceThenAreThoseOfTheLastThatAreRecent() async throws {
        let time = try #require(LogTime(stamp(8).utf8))
        #expect(try await shown(Self.log.utf8, LogSelection(tail: 3, since: time)) == ["three\n", "under way", ""])
        #expect(try await shown(Self.log.utf8, LogSelection(tail: 1, since: time)) == ["", "under way", ""])
    }

    /// Blocks are read from the end; a line that is larger than one, and one source that writes little beside another.
    @Test func theLastLinesOfALargeLogAreFoundFromItsEnd() async throws {
        let piece = String(repeating: "x", count: 16384)
        let long = String(repeating: "\(stamp(2)) stdout P \(piece)\n", count: 40) + "\(stamp(2)) stdout F end\n"
        let short = String(repeating: "\(stamp(3)) stderr F error\n", count: 20_000)
        let log = "\(stamp(1)) stdout F one\n" + long + short
        let texts = try await shown(log.utf8, LogSelection(tail: 20_001))
        #expect(texts[0].count == 40 * 16384 + 4 && texts[0].hasSuffix("xend\n"))
        #expect(texts[1].count == 20_000 * 6)
        #expect(try await shown(log.utf8, LogSelection(tail: 2)) == ["", "error\nerror\n", ""])
        #expect(try await shown(log.utf8, LogSelection(tail: 20_002))[0].hasPrefix("one\nxx"))
    }

    /// A terabyte of which only the last lines take room: reading it from its beginning would take an hour, holding it all memory.
    @Test(.timeLimit(.minutes(1))) func theLastLineOfAHugeFileIsFoundAtOnce() async throws {
        try await withTemporaryDirectory { directory in
            let path = directory + "/huge.log"
            try Data().write(to: URL(fileURLWithPath: path))
            let file = try #require(FileHandle(forWritingAtPath: path))
            try file.seek(toOffset: 1 << 40)
            try file.write(contentsOf: Data("\n\(stamp(1)) stdout F one\n\(stamp(2)) stdout F two\n".utf8))
            try file.write(contentsOf: Data("\(stamp(3)) stderr F error\n\(stamp(3)) stdout F three\n".utf8))
            try file.close()
            let shown = Shown()
            try await LogFollower(path: path).readOnce(LogSelection(tail: 2)) { shown.take($0) }
            #expect(await shown.texts() == ["three\n", "error\n", ""])
        }
    }

    @Test func aFollowedLogBeginsWithItsLastLinesAndAllOfTheNextFileIsNew() async throws {
        try await withTemporaryDirectory { directory in
            let path = directory + "/web.log"
            try Data(Self.log.utf8).write(to: URL(fileURLWithPath: path))
            let follower = try LogFollower(path: path)
            let shown = Shown()
            let following = Task { try await follower.follow(LogSelection(tail: 2)) { shown.take($0) } }
            #expect(await shown.next() == "three\n")
            #expect(await shown.next() == "under way")
            try FileManager.default.moveItem(atPath: path, toPath: path + ".20260131-120010")
            try Data("\(stamp(10)) stderr F  no more\n\(stamp(11)) stdout F four\n".utf8).write(to: URL(fileURLWithPath: path))
            #expect(await shown.next() == " no more\n")
            #expect(await shown.next() == "four\n")
            follower.finish()
            try await following.value
        }
    }

    @Test func theRestOfALineThatIsHiddenStaysHidden() async throws {
        try await withTemporaryDirectory { directory in
            try Data(Self.log.utf8).write(to: URL(fileURLWithPath: directory + "/web.log"))
            let file = try #require(FileHandle(forReadingAtPath: directory + "/web.log"))
            var decoder = CRILogDecoder()
            let tail = try LogTail(lines: 0, of: file.fileDescriptor, end: UInt64(Self.log.utf8.count), "web.log")
            #expect(tail.start == UInt64(Self.log.utf8.count))
            decoder.startTail(tail)
            let next = Data("\(stamp(10)) stderr F no more\n\(stamp(11)) stderr F new\n".utf8)
            #expect(decoder.decode(Array(next)) == [.output(.stderr, Array("new\n".utf8))])
        }
    }
}

@Suite struct LogTimeTests {
    @Test(
        arguments: [
            ("1970-01-01T00:00:00Z", 0, 0), ("2000-02-29T23:59:59.5z", 951_868_799, 500_000_000),
            ("2026-01-02t03:04:05.000000006Z", 1_767_323_045, 6), ("2026-01-02T03:04:05.1234567899+05:30", 1_767_303_245, 123_456_789),
            ("2025-12-31T22:04:05.12-05:00", 1_767_236_645, 120_000_000), ("1969-12-31T23:59:59Z", -1, 0),
            ("0001-01-01T00:00:00Z", -62_135_596_800, 0), ("2100-03-01T00:00:00Z", 4_107_542_400, 0),
        ] as [(String, Int64, Int64)])
    func rfc3339IsRead(_ text: String, _ seconds: Int64, _ nanoseconds: Int64) {
        #expect(LogTime(text.utf8) == LogTime(seconds: seconds, nanoseconds: nanoseconds))
    }

    @Test(
        arguments: [
            "", "now", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04Z", "2026-1-2T03:04:05Z", "2026-00-02T03:04:05Z",
            "2026-13-02T03:04:05Z", "2026-04-31T03:04:05Z", "2100-02-29T03:04:05Z", "2026-01-02T24:00:00Z", "2026-01-02T03:60:05Z",
            "2026-01-02T03:04:05.Z", "2026-01-02T03:04:05+1:00", "2026-01-02T03:04:05+24:00", "2026-01-02T03:04:05Z ",
        ])
    func whatIsNoTimeIsNil(_ text: String) {
        #expect(LogTime(text.utf8) == nil)
    }

    @Test func anAgeIsTakenFromNow() {
        let now = LogTime(seconds: 100, nanoseconds: 200_000_000)
        #expect(LogSince(argument: "1m30s")?.time(now: now) == LogTime(seconds: 10, nanoseconds: 200_000_000))
        #expect(LogSince(argument: "300ms")?.time(now: now) == LogTime(seconds: 99, nanoseconds: 900_000_000))
    }
}

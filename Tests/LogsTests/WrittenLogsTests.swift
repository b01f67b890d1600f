import Errors
import Foundation
import Glibc
import Logging
import Runtime
import Support
import Synchronization
import Testing

@testable import Logs

private final class KeptLines: LogCollector, CollectedLog {
    private let lines = Mutex<[UInt8]>([])

    func collect(_ container: String, _ names: ContainerNames?) -> any CollectedLog { self }
    func take(_ lines: [UInt8]) { self.lines.withLock { $0 += lines } }

    var text: String { String(decoding: lines.withLock { $0 }, as: UTF8.self) }
}

/// Logs that conmon writes, given to collectors.
@Suite(.timeLimit(.minutes(1))) struct WrittenLogsTests {
    private final class Place {
        let directory = NSTemporaryDirectory() + "swiftlet-written-" + UUID().uuidString
        var log: String { "\(directory)/pod/c.log" }
        var position: String { "\(directory)/c.read" }
        var target: LogTarget {
            var target = LogTarget(container: "c", directory: "\(directory)/pod", path: "c.log")
            target.isWritten = true
            return target
        }

        init() throws { try FileManager.default.createDirectory(atPath: "\(directory)/pod", withIntermediateDirectories: true) }

        deinit { try? FileManager.default.removeItem(atPath: directory) }

        func append(_ text: String, to path: String? = nil) throws {
            let file = open(path ?? log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o640)
            try #require(file >= 0)
            defer { close(file) }
            #expect(write(file, text, text.utf8.count) == text.utf8.count)
        }

        func logs(_ kept: KeptLines) -> WrittenLogs {
            WrittenLogs(directory: directory, collector: kept, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        }
    }

    @Test func wholeLinesAreCollectedThroughRotationsAndToTheEnd() async throws {
        let (place, kept) = (try Place(), KeptLines())
        let logs = place.logs(kept)
        try await logs.open(place.target)
        try logs.follow("c")
        try place.append("t stdout F one\nt stdout F tw")
        try await eventually("a line comes") { kept.text == "t stdout F one\n" }
        try place.append("o\n")
        try await eventually("the rest of the next one does") { kept.text == "t stdout F one\nt stdout F two\n" }
        // Written to the old file until the new one is there, and twice renamed between two looks.
        #expect(rename(place.log, place.log + ".20260101-000000_000") == 0)
        try place.append("three\n", to: place.log + ".20260101-000000_000")
        try place.append("four\n", to: place.log + ".20260101-000000_001")
        try place.append("not text\n", to: place.log + ".20260101-000000_002.gz")
        try place.append("five\n")
        try await eventually("all files are read") { kept.text.hasSuffix("two\nthree\nfour\nfive\n") }
        try place.append("six\n")
        await logs.close("c", forget: true)
        #expect(!logs.contains("c"))
        let error = await #expect(throws: SwiftletError.self) { try await logs.drained("c") }
        #expect(error?.code == .notFound)
        try await eventually("the last line comes, and nothing is kept") {
            kept.text.hasSuffix("five\nsix\n") && access(place.position, F_OK) != 0
        }
    }

    @Test func theNextProcessGoesOnWhereTheFormerWas() async throws {
        let (place, kept) = (try Place(), KeptLines())
        try place.append("one\n")
        let former = place.logs(kept)
        try await former.open(place.target)
        try former.follow("c")
        try await eventually("it is noted") { WrittenLogReader.Position(place.position)?.offset == 4 && kept.text == "one\n" }
        await former.close("c", forget: false)
        // It looks once more for what was written until then.
        try await Task.sleep(for: .seconds(1.5))
        // Meanwhile it is written and renamed.
        try place.append("two\n")
        #expect(rename(place.log, place.log + ".20260101-000000") == 0)
        try place.append("three\n")
        let next = place.logs(kept)
        try await next.open(place.target)
        try next.follow("c")
        try await eventually("nothing is lost or doubled") { kept.text == "one\ntwo\nthree\n" }
        await next.keep(only: [], forget: true)
        try await eventually("nothing is kept") { access(place.position, F_OK) != 0 }
        #expect(throws: SwiftletError.self) { try next.follow("c") }
    }

    @Test func aLogThatIsNotThereOrIsCutIsWaitedFor() async throws {
        let (place, kept) = (try Place(), KeptLines())
        let reader = WrittenLogReader(LogLocation(directory: "\(place.directory)/pod", path: "c.log"), positionPath: place.position)
        #expect(try reader.read().isEmpty)
        try place.append("one\n")
        #expect(try reader.read() == Array("one\n".utf8))
        #expect(truncate(place.log, 0) == 0)
        try place.append("a\n")
        #expect(try reader.read() == Array("a\n".utf8))
        try place.append(String(repeating: "x", count: WrittenLogReader.pieceLimit) + "\nb\n")
        #expect(try reader.read() == Array("\nb\n".utf8), "what is longer is no line")
        #expect(unlink(place.log) == 0)
        #expect(try reader.read().isEmpty)
        try place.append("c\n")
        #expect(try reader.read() == Array("c\n".utf8))
        for id in ["", "../c", "a b"] {
            var target = place.target
            target.container = id
            await #expect(throws: SwiftletError.self) { try await place.logs(kept).open(target) }
        }
    }
}

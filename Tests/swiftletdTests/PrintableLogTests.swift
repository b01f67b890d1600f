import Errors
import Logging
import Synchronization
import Testing

@testable import swiftletd

/// What others have named stays one line of the log.
@Suite struct PrintableLogTests {
    private final class Lines: Sendable {
        let all = Mutex<[String]>([])
    }

    private struct Handler: LogHandler {
        let lines: Lines
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.info

        subscript(metadataKey key: String) -> Logger.MetadataValue? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let line = "\(event.message) \(metadata) \(event.metadata ?? [:]) \(event.error.map { "\($0)" } ?? "")"
            lines.all.withLock { $0.append(line) }
        }
    }

    private struct Hostile: Error, CustomStringConvertible {
        let description = "end\n2026-01-01 info forged \u{1B}[2J \u{9B}1A \u{202E}"
    }

    @Test func nothingOfALineIsUnprintable() throws {
        let lines = Lines()
        var logger = Logger(label: "test") { _ in PrintableLogHandler(Handler(lines: lines)) }
        let hostile = Hostile()
        logger[metadataKey: "own"] = "\(hostile.description)"
        logger.info(
            "\(hostile.description)",
            metadata: ["text": "\(hostile)", "list": ["\(hostile)"], "more": ["key": .stringConvertible(hostile)]])
        logger.info("with an error", error: hostile)
        logger.info("long", metadata: ["text": "\(String(repeating: "x", count: 1 << 20))"])
        let all = lines.all.withLock { $0 }
        #expect(all.count == 3)
        for line in all {
            #expect(printable(line, limit: .max) == line && line.utf8.count < 20_000, "\(line.prefix(200))")
        }
        #expect(all[0].contains("forged") && all[1].contains("forged"))
    }
}

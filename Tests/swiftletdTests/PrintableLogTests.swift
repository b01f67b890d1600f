import Daemons
import Errors
import Logging
import Support
import Testing

@testable import swiftletd

/// What others have named stays one line of the log.
@Suite struct PrintableLogTests {
    private struct Hostile: Error, CustomStringConvertible {
        let description = "end\n2026-01-01 info forged \u{1B}[2J \u{9B}1A \u{202E}"
    }

    @Test func nothingOfALineIsUnprintable() throws {
        let log = RecordedLog()
        var logger = Logger(label: "test") { _ in PrintableLogHandler(log.handler) }
        let hostile = Hostile()
        logger[metadataKey: "own"] = "\(hostile.description)"
        logger.info(
            "\(hostile.description)",
            metadata: ["text": "\(hostile)", "list": ["\(hostile)"], "more": ["key": .stringConvertible(hostile)]])
        logger.info("with an error", error: hostile)
        logger.info("long", metadata: ["text": "\(String(repeating: "x", count: 1 << 20))"])
        let all = log.lines
        #expect(all.count == 3)
        for line in all {
            #expect(printable(line, limit: .max) == line && line.utf8.count < 20_000, "\(line.prefix(200))")
        }
        #expect(all[0].contains("forged") && all[1].contains("forged"))
    }
}

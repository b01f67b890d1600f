import CZlib
import Foundation
import Runtime
import Testing

@testable import LogCollection

@Suite struct EncodingTests {
    private let app = container()

    private func records(_ pieces: [CollectedPiece]) throws -> [[String: Any]] {
        var encoder = JSONLines()
        return try encoder.encode(pieces).split(separator: 0x0A, omittingEmptySubsequences: false).dropLast().map { try json($0) }
    }

    @Test func aLineIsOneRecordWithItsPodsNames() throws {
        let all = try records([piece(lines(["hello  world "]), app), piece(lines(["x"], stream: "stderr", tag: "P"), container("d", nil))])
        try #require(all.count == 2)
        #expect(all[0]["time"] as? String == "2026-01-02T03:04:05.000000006Z")
        #expect((all[0]["stream"] as? String, all[0]["logtag"] as? String, all[0]["log"] as? String) == ("stdout", "F", "hello  world "))
        let kubernetes = try #require(all[0]["kubernetes"] as? [String: Any])
        #expect(kubernetes["namespace_name"] as? String == "shop" && kubernetes["pod_name"] as? String == "web-0")
        #expect(kubernetes["pod_id"] as? String == "11-22" && kubernetes["container_name"] as? String == "app")
        #expect(kubernetes["container_id"] as? String == "c" && kubernetes["attempt"] as? Int == 3)
        #expect((all[1]["stream"] as? String, all[1]["logtag"] as? String) == ("stderr", "P"))
        #expect((all[1]["kubernetes"] as? [String: String]) == ["container_id": "d"])
    }

    @Test func noBytesOfALineBreakTheRecord() throws {
        let texts = ["\u{1}\u{1F}\"\\\t\r\u{8}{}", "käse 🧀 \u{2028}", ""]
        #expect(try records([piece(lines(texts), app)]).map { $0["log"] as? String } == texts)
        let invalid = lines([""]).dropLast() + [0xFF, 0x61, 0xC3, 0x0A]
        #expect(try records([piece(Array(invalid), app)]).map { $0["log"] as? String } == ["\u{FFFD}a\u{FFFD}"])
    }

    /// Vector's socket source takes lines of 100 KiB.
    @Test func noRecordIsLongerThan100KiB() throws {
        let long = String(repeating: "n", count: 253)
        let owner = container(long, ContainerNames(namespace: long, pod: long, podUID: long, container: long, attempt: .max))
        var encoder = JSONLines()
        let bytes = encoder.encode([piece(lines([String(repeating: "\u{1}", count: 16384)]), owner)])
        #expect(bytes.count <= 102_400 && bytes.count > 6 * 16384)
    }

    @Test func aCharacterThatIsCutIsWholeInTheNextPiece() throws {
        let cheese = Array("🧀".utf8)
        func cut(_ count: Int) throws -> [String?] {
            let first = lines(["a"], tag: "P").dropLast() + cheese.prefix(count) + [0x0A]
            let second = Array(lines([""]).dropLast()) + cheese.dropFirst(count) + [0x0A]
            return try records([piece(Array(first), app), piece(lines(["other"]), container("d")), piece(second, app)]).map {
                $0["log"] as? String
            }
        }
        for count in 1...3 { #expect(try cut(count) == ["a", "other", "🧀"]) }
        #expect(LogLineReader.unfinished([0x61]) == 0 && LogLineReader.unfinished([0x80, 0x80, 0x80, 0x80]) == 0)
        #expect(LogLineReader.unfinished([0xC3, 0xA4]) == 0 && LogLineReader.unfinished([0xC3]) == 1)
    }

    @Test func aGapIsARecord() throws {
        let gap = CollectedPiece(container: app, content: .gap(DroppedLines(lines: 7, bytes: 300)))
        let others = CollectedPiece(container: nil, content: .gap(DroppedLines(lines: 1, bytes: 41)))
        let all = try records([gap, others])
        try #require(all.count == 2)
        #expect(all[0]["dropped_lines"] as? Int == 7 && all[0]["dropped_bytes"] as? Int == 300)
        #expect(all[0]["logtag"] as? String == "F:dropped" && (all[0]["log"] as? String)?.contains("7 lines") == true)
        #expect((all[0]["kubernetes"] as? [String: Any])?["pod_name"] as? String == "web-0")
        #expect(all[1]["dropped_lines"] as? Int == 1 && all[1]["kubernetes"] == nil)
        #expect((all[0]["time"] as? String).flatMap(RecordTime.nanoseconds) != nil)
    }

    @Test func anOTLPRequestHasAResourceForEachContainer() throws {
        var requests = OTLPRequest(version: "1.2.3")
        let other = container("d", nil)
        let gap = CollectedPiece(container: app, content: .gap(DroppedLines(lines: 7, bytes: 300)))
        let bytes = requests.encode([
            piece(lines(["one"]), app), piece(lines(["other"], stream: "stderr", tag: "P"), other), gap, piece(lines(["two"]), app),
        ])
        let resources = try #require(try json(bytes)["resourceLogs"] as? [[String: Any]])
        try #require(resources.count == 2)
        #expect(
            OTLP.attributes(resources[0]["resource"]) == [
                "k8s.namespace.name": "shop", "k8s.pod.name": "web-0", "k8s.pod.uid": "11-22", "k8s.container.name": "app",
                "k8s.container.restart_count": "3", "container.id": "c",
            ])
        #expect(OTLP.attributes(resources[1]["resource"]) == ["container.id": "d"])
        let records = OTLP.records(resources[0])
        #expect(
            records.map { $0.body } == [
                "one", "swiftlet: 7 lines (300 bytes of the log) were dropped: the collector did not take them", "two",
            ])
        #expect(records[0].time == "1767323045000000006" && records[0].attributes == ["log.iostream": "stdout", "logtag": "F"])
        #expect(records[1].attributes == ["logtag": "F:dropped", "swiftlet.dropped_lines": "7", "swiftlet.dropped_bytes": "300"])
        #expect(OTLP.records(resources[1]).map { $0.attributes } == [["log.iostream": "stderr", "logtag": "P"]])
    }

    @Test func gzipIsReadByZlib() {
        let text = Array(String(repeating: "swiftlet ", count: 10_000).utf8)
        let packed = Gzip.compress(text)
        #expect(packed.prefix(2) == [0x1F, 0x8B] && packed.count < text.count / 10)
        #expect(OTLP.gunzip(packed) == text)
        #expect(OTLP.gunzip(Gzip.compress([])) == [])
    }

    @Test func aTimeThatHasNoRoomIsNone() {
        #expect(RecordTime.nanoseconds("1970-01-01T00:00:01.000000002Z") == 1_000_000_002)
        #expect(RecordTime.nanoseconds("2262-04-11T23:47:16.854775808Z") == 1 << 63)
        #expect(RecordTime.nanoseconds("2554-07-21T23:34:33.709551615Z") == .max)
        for text in [
            "2554-07-21T23:34:33.709551616Z", "2554-07-21T23:34:34.000000000Z", "9999-12-31T23:59:59.999999999Z",
            "1969-12-31T23:59:59.000000000Z", "1970-01-01T00:00:01.-00000002Z",
        ] {
            #expect(RecordTime.nanoseconds(text) == nil, "\(text)")
        }
    }

    @Test func aReceiverSaysHowLongToWait() {
        #expect(RetryAfter.wait("7") == .seconds(7))
        let now = 784_111_777
        #expect(RetryAfter.wait("Sun, 06 Nov 1994 08:49:47 GMT", now: now) == .seconds(10))
        #expect(RetryAfter.wait("Sun, 06 Nov 1994 08:49:07 GMT", now: now) == .zero)
        // Whose numbers overflow those of a date, or are none of one.
        for text in [
            "X 1 Nov -2147483648 1:1:1 GMT", "X 06 Nov 2147483647 1:1:1 GMT", "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
        ] {
            #expect(RetryAfter.wait(text, now: now) == nil, "\(text)")
        }
        for text in [nil, "", "soon", "-1", "Sun, 06 Now 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET"] {
            #expect(RetryAfter.wait(text) == nil)
        }
    }
}

import Foundation
import Runtime
import Support
import Synchronization
import Testing

@testable import LogCollection

@Suite(.timeLimit(.minutes(1))) struct OTLPDeliveryTests {
    private let log = RecordedLog()
    private let collectors: LogCollectors

    init() { collectors = LogCollectors(logger: log.logger) }

    /// One collector that answers as it is told.
    private func withReceiver(
        timeout: Duration = .seconds(20), path: String = "", compresses: Bool = false,
        _ answer: @escaping @Sendable (Int) -> HTTPCollector.Answer = { _ in .status(200) },
        _ body: (HTTPCollector, any CollectedLog) async throws -> Void
    ) async throws {
        let receiver = try HTTPCollector(answer)
        defer { receiver.stop() }
        let otlp = OTLPConfiguration(endpoint: "http://localhost:\(receiver.port)\(path)", timeout: timeout, compresses: compresses)
        collectors.configure(CollectionConfiguration(otlp: otlp, queueBytes: 1 << 20))
        try await body(receiver, collectors.collect("c", names))
        await collectors.stop(within: .seconds(1))
    }

    private func texts(_ request: HTTPCollector.Request) -> [String] {
        let body = request.headers["content-encoding"] == "gzip" ? OTLP.gunzip(request.body) ?? [] : request.body
        let resources = (try? json(body))?["resourceLogs"] as? [[String: Any]] ?? []
        return resources.flatMap { OTLP.records($0).compactMap(\.body) }
    }

    @Test(arguments: [false, true]) func linesArePostedInBatches(_ compresses: Bool) async throws {
        try await withReceiver(path: "/otlp/", compresses: compresses) { receiver, open in
            for number in 0..<1000 { open.take(lines(["\(number)"])) }
            try await eventually("all come") { receiver.requests.reduce(0) { $0 + texts($1).count } == 1000 }
            #expect(receiver.requests.flatMap(texts) == (0..<1000).map { "\($0)" })
            #expect(receiver.requests.count < 10)
            #expect(receiver.requests[0].line == "POST /otlp/v1/logs HTTP/1.1")
            #expect(receiver.requests[0].headers["content-type"] == "application/json")
            #expect(receiver.requests[0].headers["content-encoding"] == (compresses ? "gzip" : nil))
            try await eventually("they are counted") { collectors.states.first?.sentLines == 1000 }
        }
    }

    @Test(arguments: [429, 502, 503, 504]) func aReceiverThatIsBusyIsAskedAgainWhenItSays(_ status: Int) async throws {
        try await withReceiver({ $0 == 0 ? .status(status, headers: ["Retry-After": "2"]) : .status(200) }) { receiver, open in
            open.take(lines(["one"]))
            try await eventually("it is asked again") { receiver.requests.count == 2 }
            // After 0.6 s at most otherwise.
            #expect(Self.pauses(receiver).allSatisfy { $0 > .milliseconds(1900) })
            #expect(receiver.requests.map(texts) == [["one"], ["one"]])
            try await eventually("it is counted") { collectors.states.first?.sentLines == 1 }
            #expect(log.lines.filter { $0.contains("a collector takes no logs") && $0.contains("\(status)") }.count == 1)
        }
    }

    private static func pauses(_ receiver: HTTPCollector) -> [Duration] {
        let arrivals = receiver.requests.map(\.arrival)
        return zip(arrivals, arrivals.dropFirst()).map { $1 - $0 }
    }

    @Test(arguments: ["0", "Sun, 06 Nov 1994 08:49:37 GMT"])
    func aReceiverThatWantsToBeAskedAtOnceIsNot(_ when: String) async throws {
        try await withReceiver({ _ in .status(503, headers: ["Retry-After": when]) }) { receiver, open in
            open.take(lines(["one"]))
            try await eventually("it is asked three times") { receiver.requests.count >= 3 }
            // After 0.5 s and 1 s, a quarter less at most.
            let pauses = Self.pauses(receiver)
            #expect(pauses[0] > .milliseconds(370) && pauses[1] > .milliseconds(740), "\(pauses)")
        }
    }

    @Test func anAnswerThatHangsBehindItsHeadIsNoAnswer() async throws {
        try await withReceiver(timeout: .milliseconds(500), { $0 == 0 ? .hangsBehindHead(200) : .status(200) }) { receiver, open in
            open.take(lines(["one"]))
            try await eventually("it is asked again") { receiver.requests.map(texts) == [["one"], ["one"]] }
            try await eventually("it is counted") { collectors.states.first?.sentLines == 1 }
            #expect(log.lines.filter { $0.contains("takes no logs") }.count == 1)
        }
    }

    /// What it had answered would come again and again otherwise.
    @Test(arguments: [200, 400]) func anAnswerThatIsTooLongCountsByItsStatus(_ status: Int) async throws {
        let page = String(repeating: "page ", count: 200_000)
        try await withReceiver({ $0 == 0 ? .status(status, body: page) : .status(200) }) { receiver, open in
            open.take(lines(["one"]))
            try await eventually("it is counted") {
                collectors.states.first.map { status == 200 ? $0.sentLines : $0.droppedLines } == 1
            }
            #expect(log.lines.contains { $0.contains("takes no logs") && $0.contains("400") } == (status == 400))
            open.take(lines(["two"]))
            try await eventually("the next comes") { receiver.requests.count == 2 }
            #expect(receiver.requests.last.map(texts)?.last == "two" && receiver.requests.last.map(texts)?.contains("one") == false)
        }
    }

    @Test func aReceiverThatHangsOrClosesIsAskedAgain() async throws {
        try await withReceiver(timeout: .milliseconds(500), { $0 == 0 ? .hangs : $0 == 1 ? .closes : .status(200) }) { receiver, open in
            open.take(lines(["one"]))
            try await eventually("it is asked until it answers") { receiver.requests.count == 3 }
            try await eventually("it is counted") { collectors.states.first?.sentLines == 1 }
            #expect(collectors.states.first?.droppedLines == 0)
        }
    }

    /// The protocol has no other answer repeated.
    @Test func whatIsRefusedIsDroppedAndSaidWithTheNextLines() async throws {
        try await withReceiver({ $0 == 0 ? .status(400, body: "no\u{1B}[1m") : .status(200) }) { receiver, open in
            open.take(lines(["bad", "worse"]))
            try await eventually("they are refused") { collectors.states.first?.droppedLines == 2 }
            try await Task.sleep(for: .milliseconds(700))
            #expect(receiver.requests.count == 1)
            open.take(lines(["good"]))
            try await eventually("the next come") { receiver.requests.count == 2 }
            let gap = DroppedLines(lines: 2, bytes: lines(["bad", "worse"]).count).text
            #expect(receiver.requests.last.map(texts) == [gap, "good"])
            let said = log.lines.filter { $0.contains("a collector takes no logs") }
            #expect(said.count == 1 && said[0].contains("400") && !said[0].contains("\u{1B}"))
        }
    }

    @Test func aReceiverThatRefusesEverythingIsNotAskedAsFastAsItAnswers() async throws {
        try await withReceiver({ _ in .status(404) }) { receiver, open in
            open.take(lines(["one"]))
            try await eventually("it is asked") { receiver.requests.count == 1 && collectors.states.first?.failure != nil }
            let end = ContinuousClock.now + .seconds(2)
            while ContinuousClock.now < end {
                open.take(lines(["more"]))
                try await Task.sleep(for: .milliseconds(10))
            }
            // After 0.6 s, 1.8 s and 4.2 s; without a pause every 0.2 s.
            #expect(receiver.requests.count <= 5, "\(receiver.requests.count)")
            #expect(log.lines.filter { $0.contains("takes no logs") }.count == 1)
        }
    }

    @Test func whatIsTakenInPartIsNotSentAgain() async throws {
        let answer = #"{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"too old"}}"#
        try await withReceiver({ _ in .status(200, body: answer) }) { receiver, open in
            open.take(lines(["1", "2", "3"]))
            try await eventually("it is counted") { collectors.states.first?.droppedLines == 1 }
            #expect(collectors.states.first?.sentLines == 2 && receiver.requests.count == 1)
            #expect(log.lines.contains { $0.contains("too old") })
        }
    }

    /// Sums of any numbers of a receiver's would overflow.
    @Test(arguments: ["\"9223372036854775807\"", "9223372036854775807", "-1"])
    func noMoreAreRejectedThanWereSent(_ number: String) async throws {
        let answer = #"{"partialSuccess":{"rejectedLogRecords":\#(number)}}"#
        let rejected = number == "-1" ? 0 : 3
        try await withReceiver({ $0 == 0 ? .status(200, body: answer) : .hangs }) { receiver, open in
            open.take(lines(["1", "2", "3"]))
            try await eventually("they are counted") {
                collectors.states.first.map { $0.sentLines + $0.droppedLines } == 3
            }
            #expect(collectors.states.first?.droppedLines == rejected)
            let block = lines((0..<1000).map { "\($0)" })
            for _ in 0..<30 { open.take(block) }
            let dropped = collectors.states.first?.droppedLines ?? 0
            #expect(dropped > 10_000 && dropped <= 30_003)
        }
    }

    @Test func aReceiverThatIsAbsentCostsWhatHasNoRoom() async throws {
        let port = try Self.freePort()
        collectors.configure(CollectionConfiguration(otlp: OTLPConfiguration(endpoint: "http://127.0.0.1:\(port)"), queueBytes: 1 << 20))
        let open = collectors.collect("c", names)
        let block = lines((0..<1000).map { "\($0)" })
        for _ in 0..<30 { open.take(block) }
        #expect((collectors.states.first?.droppedLines ?? 0) > 10_000)
        let receiver = try HTTPCollector(port: port)
        defer { receiver.stop() }
        try await eventually("what has waited comes, and how much is missing") {
            receiver.requests.flatMap(texts).contains { $0.contains("were dropped") }
        }
        #expect(receiver.requests.allSatisfy { $0.body.count < 2 << 20 })
        await collectors.stop(within: .seconds(1))
    }

    private static func freePort() throws -> UInt16 {
        let receiver = try HTTPCollector()
        receiver.stop()
        return receiver.port
    }
}

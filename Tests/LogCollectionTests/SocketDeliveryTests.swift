import Foundation
import Runtime
import Support
import Testing

@testable import LogCollection

@Suite(.timeLimit(.minutes(1))) struct SocketDeliveryTests {
    private let path = NSTemporaryDirectory() + "collector-\(UInt32.random(in: 0 ... .max))"
    private let log = RecordedLog()
    private let collectors: LogCollectors

    init() {
        collectors = LogCollectors(logger: log.logger)
        collectors.configure(CollectionConfiguration(socket: path, queueBytes: 1 << 20))
    }

    private func texts(_ collector: SocketCollector) -> [String] { collector.records.compactMap { $0["log"] as? String } }

    private var dropped: Int { collectors.states.first?.droppedLines ?? 0 }

    @Test func whatAllContainersWriteArrivesInOrder() async throws {
        let collector = try SocketCollector(path: path)
        defer { collector.stop() }
        let (one, other) = (collectors.collect("c", names), collectors.collect("d", nil))
        for number in 0..<500 {
            one.take(lines(["c\(number)"]))
            other.take(lines(["d\(number)"]))
        }
        try await eventually("all lines come") { texts(collector).count == 1000 }
        #expect(texts(collector).filter { $0.hasPrefix("c") } == (0..<500).map { "c\($0)" })
        #expect(texts(collector).filter { $0.hasPrefix("d") } == (0..<500).map { "d\($0)" })
        try await eventually("they are counted") {
            collectors.states == [CollectorState(kind: "socket", sentLines: 1000, droppedLines: 0, failure: nil)]
        }
        await collectors.stop(within: .seconds(5))
    }

    @Test func whatWaitsForACollectorComesWhenItIsThereAndItIsSaidOnceThatItWasNot() async throws {
        let open = collectors.collect("c", names)
        open.take(lines(["before"]))
        try await eventually("it is known to be absent") { collectors.states.first?.failure != nil }
        try await Task.sleep(for: .milliseconds(400))
        let collector = try SocketCollector(path: path)
        defer { collector.stop() }
        try await eventually("it comes") { texts(collector) == ["before"] }
        try await eventually("it is known to be there") { collectors.states.first?.failure == nil }
        #expect(log.lines.filter { $0.contains("a collector takes no logs") && $0.contains(path) }.count == 1)
        #expect(log.lines.filter { $0.contains("takes logs again") }.count == 1)
        await collectors.stop(within: .seconds(5))
    }

    /// 4 MB for a collector that takes none of them.
    @Test(arguments: [SocketCollector.Behaviour.hangs, .leaves(after: 0), .leaves(after: 100_000)])
    func aCollectorThatTakesNothingCostsItsLinesAndNobodyElse(_ behaviour: SocketCollector.Behaviour) async throws {
        let collector = try SocketCollector(path: path, behaviour)
        defer { collector.stop() }
        let (loud, quiet) = (collectors.collect("c", names), collectors.collect("d", nil))
        let block = lines((0..<1000).map { "\($0) \(String(repeating: "x", count: 60))" })
        let began = ContinuousClock.now
        for _ in 0..<40 { loud.take(block) }
        #expect(ContinuousClock.now - began < .seconds(20))
        quiet.take(lines(["quiet"]))
        #expect(dropped > 20_000)
        try await eventually("it is said") { log.lines.contains { $0.contains("lines of logs are dropped") } }
        #expect(log.lines.filter { $0.contains("dropped") }.count == 1)
        // Whoever is there then gets lines again, and a record of what is missing.
        collector.stop()
        let next = try SocketCollector(path: path)
        defer { next.stop() }
        quiet.take(lines(["later"]))
        try await eventually("the other container's line comes") { texts(next).contains("later") }
        if behaviour == .hangs {
            let said = next.records.compactMap { $0["dropped_lines"] as? Int }.reduce(0, +)
            #expect(texts(next).contains("quiet") && said > 0 && said <= dropped)
        }
        await collectors.stop(within: .seconds(5))
    }

    /// Whole lines on each connection: what was under way comes again.
    @Test func aCollectorThatEndsWithinALineGetsItWhole() async throws {
        let first = try SocketCollector(path: path, .leaves(after: 1000))
        let open = collectors.collect("c", names)
        open.take(lines((0..<3000).map { "\($0)" }))
        try await eventually("it has left") { first.received.contains { $0.count == 1000 } }
        first.stop()
        let next = try SocketCollector(path: path)
        defer { next.stop() }
        try await eventually("all lines come") { texts(next).last == "2999" }
        #expect(texts(next) == (0..<3000).map { "\($0)" })
        #expect(next.received.flatMap { $0.split(separator: 0x0A) }.count == 3000)
        await collectors.stop(within: .seconds(5))
    }

    @Test func aChangeOfTheConfigurationLeavesTheOtherCollectorAndAllLogs() async throws {
        let open = collectors.collect("c", names)
        let collector = try SocketCollector(path: path)
        defer { collector.stop() }
        open.take(lines(["1"]))
        try await eventually("it comes") { texts(collector) == ["1"] }
        let http = try HTTPCollector()
        defer { http.stop() }
        let otlp = OTLPConfiguration(endpoint: "http://127.0.0.1:\(http.port)")
        collectors.configure(CollectionConfiguration(socket: path, otlp: otlp, queueBytes: 2 << 20))
        open.take(lines(["2"]))
        try await eventually("both get it") { texts(collector) == ["1", "2"] && http.requests.count == 1 }
        #expect(collector.received.count == 1 && collectors.states.map(\.kind) == ["socket", "otlp"])
        collectors.configure(CollectionConfiguration(otlp: otlp))
        open.take(lines(["3"]))
        try await eventually("the one that is left gets it") { http.requests.count == 2 }
        collectors.configure(CollectionConfiguration())
        open.take(lines(["4"]))
        #expect(collectors.states.isEmpty)
        #expect(texts(collector) == ["1", "2"])
        await collectors.stop(within: .seconds(5))
    }

    @Test func whatWaitsIsGivenAtTheEndToACollectorThatTakesIt() async throws {
        let collector = try SocketCollector(path: path)
        defer { collector.stop() }
        collectors.collect("c", names).take(lines(["last"]))
        await collectors.stop(within: .seconds(20))
        try await eventually("it comes") { texts(collector) == ["last"] }
    }

    @Test func theEndWaitsForNoCollectorForLong() async throws {
        let collector = try SocketCollector(path: path, .hangs)
        defer { collector.stop() }
        let open = collectors.collect("c", names)
        for _ in 0..<200 { open.take(lines((0..<100).map { "\($0)" })) }
        let began = ContinuousClock.now
        await collectors.stop(within: .milliseconds(300))
        #expect(ContinuousClock.now - began < .seconds(20))
    }
}

import Foundation
import Runtime
import Support
import Synchronization
import Testing

@testable import Logs

/// Time that passes only while somebody sleeps.
private final class TestClock: BudgetClock {
    private let time = Mutex(Duration.zero)

    var now: Duration { time.withLock { $0 } }

    func pass(_ duration: Duration) { time.withLock { $0 += duration } }

    func sleep(_ duration: Duration) async throws {
        // The line that names dropped bytes is not what passes the time.
        if duration == BudgetedSink.namedAfter { return try await Task.sleep(for: .seconds(3600)) }
        pass(duration)
    }
}

@Suite(.timeLimit(.minutes(1))) struct LogBudgetTests {
    private let directory: String

    init() throws {
        directory = NSTemporaryDirectory() + "swiftlet-budget-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }

    private func remove() { try? FileManager.default.removeItem(atPath: directory) }

    private func open() async throws -> ContainerLog {
        try await ContainerLog.open(location: LogLocation(directory: directory, path: "c.log"), positionPath: directory + "/c.position")
    }

    private func lines() throws -> [String] {
        try String(contentsOfFile: directory + "/c.log", encoding: .utf8).split(separator: "\n").map {
            $0.split(separator: " ", maxSplits: 1).last.map(String.init) ?? ""
        }
    }

    @Test(
        arguments: [
            // perSecond, then (at milliseconds, expected delay in milliseconds, taken if there is none)
            (100, [(0, 0, 60), (0, 0, 60), (0, 200, 0), (201, 0, 1)]),
            (100, [(0, 0, 1000), (0, 9000, 0), (8999, 1, 0), (9001, 0, 100)]),
            (100, [(0, 0, 100), (0, 0, 0), (60_000, 0, 100), (60_000, 0, 0)]),
        ] as [(UInt64, [(Int, Int, UInt64)])])
    func aBucketLetsTheRatePass(_ perSecond: UInt64, _ steps: [(Int, Int, UInt64)]) {
        var bucket = TokenBucket(perSecond: perSecond, now: .zero)
        for (time, expected, amount) in steps {
            let now = Duration.milliseconds(time)
            let delay = bucket.delay(at: now)
            if expected > 0 {
                #expect(abs((delay - .milliseconds(expected)) / .milliseconds(1)) < 0.01, "at \(time)")
            } else if amount > 0 {
                #expect(delay == .zero, "at \(time)")
            }
            if delay == .zero { bucket.take(amount, at: now) }
        }
    }

    /// A moment before the last one gives nothing and takes nothing.
    @Test func aBucketSaysALongerDelayForADebt() {
        var bucket = TokenBucket(perSecond: 1, now: .seconds(5))
        bucket.take(3, at: .seconds(5))
        #expect(bucket.delay(at: .seconds(4)) == bucket.delay(at: .seconds(5)))
        #expect(bucket.delay(at: .seconds(8)) == .zero)
    }

    @Test func beyondTheBudgetOutputWaits() async throws {
        defer { remove() }
        let (log, clock) = (try await open(), TestClock())
        let sink = BudgetedSink(log: log, budget: LogBudget(bytesPerSecond: 100), clock: clock)
        let piece = Array((String(repeating: "x", count: 49) + "\n").utf8)
        for _ in 0..<100 { _ = try await sink.take(piece, from: .stdout) }
        // 5,000 bytes: one second's worth at once, one piece as debt.
        #expect(clock.now >= .seconds(48) && clock.now <= .seconds(49))
        #expect(try lines().count == 100)
        #expect(await log.received().stdout == 5000)
    }

    /// Nobody wakes by the time.
    private struct StoppedClock: BudgetClock {
        var now: Duration { .zero }
        func sleep(_ duration: Duration) async throws { try await Task.sleep(for: .seconds(3600)) }
    }

    @Test func whatWaitsIsWrittenWhenTheBudgetIsLifted() async throws {
        defer { remove() }
        let log = try await open()
        let sink = BudgetedSink(log: log, budget: LogBudget(bytesPerSecond: 1), clock: StoppedClock())
        _ = try await sink.take(Array("first\n".utf8), from: .stdout)
        let waiting = StandardStream.allCases.map { source in Task { try await sink.take(Array("late\n".utf8), from: source) } }
        let cancelled = Task { try await sink.take(Array("never\n".utf8), from: .stdout) }
        try await eventually("all three wait") { await sink.waiting == 3 }
        cancelled.cancel()
        await #expect(throws: CancellationError.self) { try await cancelled.value }
        #expect(try lines() == ["stdout F first"])
        await sink.lift()
        for piece in waiting { _ = try await piece.value }
        _ = try await sink.take(Array("last\n".utf8), from: .stdout)
        #expect(try lines().sorted() == ["stderr F late", "stdout F first", "stdout F last", "stdout F late"])
        // A guest that goes on is held to the budget again.
        for _ in 0..<24 { _ = try await sink.take([UInt8](repeating: UInt8(ascii: "x"), count: 64 << 10), from: .stdout) }
        let excess = Task { try await sink.take(Array("excess\n".utf8), from: .stdout) }
        try await eventually("it waits") { await sink.waiting == 1 }
        excess.cancel()
        await #expect(throws: CancellationError.self) { try await excess.value }
        await log.close()
    }

    @Test func operationsAreCountedToo() async throws {
        defer { remove() }
        let (log, clock) = (try await open(), TestClock())
        let sink = BudgetedSink(log: log, budget: LogBudget(operationsPerSecond: 10), clock: clock)
        for _ in 0..<100 { _ = try await sink.take(Array("x\n".utf8), from: .stderr) }
        #expect(clock.now >= .milliseconds(8900) && clock.now <= .seconds(9))
        #expect(try lines().count == 100)
    }

    @Test func droppedBytesAreCountedInTheLogAndSafe() async throws {
        defer { remove() }
        let (log, clock) = (try await open(), TestClock())
        let sink = BudgetedSink(log: log, budget: LogBudget(bytesPerSecond: 10, excess: .drop), clock: clock)
        _ = try await sink.take(Array("first\nhalf a".utf8), from: .stdout)
        let safe = try await sink.take(Array(" line\nand more\n".utf8), from: .stdout)
        #expect(safe.stdout == 27)
        _ = try await sink.take(Array("lost\n".utf8), from: .stdout)
        clock.pass(.seconds(10))
        _ = try await sink.take(Array("kept\n".utf8), from: .stdout)
        #expect(
            try lines() == [
                "stdout F first", "stdout P half a", "stdout F ", "stdout F:dropped swiftlet: 20 bytes dropped over the log's budget",
                "stdout F kept",
            ])
        await log.close()
    }

    /// A kill of the process leaves the file as it is; what was not noted is found by the lines.
    @Test(arguments: [false, true]) func noDroppedByteIsLostOrDoubledByAKill(_ isNoted: Bool) async throws {
        defer { remove() }
        let first = try await open()
        _ = try await first.take(Array("one\n".utf8), from: .stdout)
        _ = try await first.drop(100, from: .stdout)
        let position = URL(fileURLWithPath: directory + "/c.position")
        let noted = try Data(contentsOf: position)
        if isNoted { _ = try await first.drop(11, from: .stdout) } else { _ = try await first.take(Array("two\n".utf8), from: .stdout) }
        await first.close()
        if !isNoted { try noted.write(to: position) }
        let second = try await open()
        #expect(await second.received().stdout == (isNoted ? 115 : 108))
        _ = try await second.take(Array("three\n".utf8), from: .stdout)
        await second.close()
        let count = isNoted ? 111 : 100
        let named = "stdout F:dropped swiftlet: \(count) bytes dropped over the log's budget"
        #expect(try lines() == ["stdout F one", named] + (isNoted ? [] : ["stdout F two"]) + ["stdout F three"])
    }

    /// What a container writes is no tag: its bytes count as themselves.
    @Test func aContainerCannotForgeTheCount() async throws {
        defer { remove() }
        let first = try await open()
        let position = URL(fileURLWithPath: directory + "/c.position")
        let noted = try Data(contentsOf: position)
        let text = Array("F:dropped swiftlet: 5000 bytes dropped over the log's budget\n".utf8)
        _ = try await first.take(text, from: .stdout)
        await first.close()
        try noted.write(to: position)
        let second = try await open()
        #expect(await second.received().stdout == UInt64(text.count))
        await second.close()
    }

    @Test func aSourceThatEndsHasItsDroppedBytesNamed() async throws {
        defer { remove() }
        let log = try await open()
        _ = try await log.drop(7, from: .stderr)
        _ = try await log.finish(.stderr)
        #expect(try lines() == ["stderr F:dropped swiftlet: 7 bytes dropped over the log's budget"])
        await log.close()
    }
}

import Support
import Synchronization
import Testing

@testable import LogCollection

@Suite struct CollectorHealthTests {
    private final class Clock: Sendable {
        private let time = Mutex(ContinuousClock.now)

        var now: ContinuousClock.Instant { time.withLock { $0 } }

        func advance(_ duration: Duration) { time.withLock { $0 += duration } }
    }

    private let log = RecordedLog()
    private let clock = Clock()
    private let health: CollectorHealth

    init() { health = CollectorHealth(logger: log.logger, now: { [clock] in clock.now }) }

    private func count(_ text: String) -> Int { log.lines.filter { $0.contains(text) }.count }

    @Test func oneThatFailsAndWorksByTurnsIsSaidOnceAMinute() {
        for _ in 0..<119 {
            health.failed("busy")
            #expect(health.failure == "busy")
            health.sent(1)
            #expect(health.failure == nil)
            clock.advance(.seconds(1))
        }
        #expect(health.sentLines == 119)
        #expect(count("takes no logs") == 2 && count("takes logs again") == 2)
    }

    /// Though it began within the minute of another.
    @Test func aFailureThatLastsIsSaid() {
        health.failed("first")
        health.sent(1)
        health.failed("second")
        clock.advance(.seconds(59))
        health.failed("third")
        #expect(count("takes no logs") == 1)
        clock.advance(.seconds(1))
        for _ in 0..<3 { health.failed("fourth") }
        clock.advance(.seconds(600))
        health.failed("fifth")
        #expect(count("takes no logs") == 2 && count("fourth") == 1 && count("takes logs again") == 1)
        health.sent(1)
        health.sent(1)
        #expect(count("takes logs again") == 2)
    }

    @Test func thatLinesAreDroppedIsSaidOnceAMinute() {
        for _ in 0..<60 {
            health.overflowed()
            clock.advance(.seconds(2))
        }
        #expect(count("lines of logs are dropped") == 2)
    }
}

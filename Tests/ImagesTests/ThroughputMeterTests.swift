import Testing

@testable import Images

/// What a pull must bring, without a clock.
@Suite struct ThroughputMeterTests {
    private let least = LeastThroughput(bytes: 100, window: .seconds(10), grace: .seconds(5))

    /// A meter with one download under way.
    private var meter: ThroughputMeter {
        var meter = ThroughputMeter(least)
        meter.begin(at: .zero)
        return meter
    }

    @Test func nothingIsJudgedBeforeAWholeWindowAfterTheGrace() {
        var meter = meter
        for second in 1..<15 { #expect(meter.shortfall(at: .seconds(second)) == nil) }
        meter.add(99)
        #expect(meter.shortfall(at: .seconds(15)) == 99)
    }

    @Test func earlyBytesDoNotCountForALaterWindow() {
        var meter = meter
        meter.add(1_000_000)
        for second in 1...14 { #expect(meter.shortfall(at: .seconds(second)) == nil) }
        meter.add(1)
        #expect(meter.shortfall(at: .seconds(15)) == 1)
    }

    @Test func enoughInEveryWindowIsEnough() {
        var meter = meter
        for second in 1...1000 {
            meter.add(10)
            #expect(meter.shortfall(at: .seconds(second)) == nil)
        }
        for second in 1001...1009 { _ = meter.shortfall(at: .seconds(second)) }
        #expect(meter.shortfall(at: .seconds(1010)) == 0)
    }

    @Test func downloadsThatAreSlowOneByOneAreEnoughTogether() {
        var meter = meter
        meter.begin(at: .zero)
        meter.begin(at: .zero)
        for second in 1...1000 {
            for _ in 0..<3 { meter.add(4) }
            #expect(meter.shortfall(at: .seconds(second)) == nil)
        }
    }

    @Test func manyShortDownloadsAreJudgedAsOne() {
        var meter = ThroughputMeter(least)
        for second in 0..<14 {
            meter.begin(at: .seconds(second))
            meter.add(1)
            #expect(meter.shortfall(at: .seconds(second + 1)) == nil)
            meter.end(at: .seconds(second + 1))
        }
        meter.begin(at: .seconds(14))
        #expect(meter.shortfall(at: .seconds(15)) == 9)
    }

    @Test func timeWithoutADownloadDoesNotCount() {
        var meter = meter
        meter.end(at: .seconds(14))
        #expect(meter.shortfall(at: .seconds(1000)) == nil)
        meter.begin(at: .seconds(1000))
        #expect(meter.shortfall(at: .seconds(1000)) == nil)
        #expect(meter.shortfall(at: .seconds(1001)) == 0)
    }
}

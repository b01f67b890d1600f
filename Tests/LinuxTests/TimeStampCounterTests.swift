import Testing

@testable import Linux

@Suite struct TimeStampCounterTests {
    @Test func itsRateIsTheSameHoweverLongItIsMeasured() throws {
        #if arch(x86_64)
            let rates = try [20, 50, 200].map { try #require(TimeStampCounter.measureRate(milliseconds: $0)) }
            let (least, most) = (rates.min() ?? 0, rates.max() ?? 0)
            #expect(least > 100_000 && most < 10_000_000)
            #expect(Double(most - least) < Double(most) / 1000, "\(rates)")
        #endif
    }
}

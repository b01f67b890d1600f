import Testing

@testable import swiftlet_bench

@Suite struct FiguresTests {
    @Test func percentilesAreSamplesOfTheNearestRank() {
        var samples = Samples()
        for value in [5, 1, 4, 2, 3, 10, 9, 8, 7, 6] { samples.add(.milliseconds(value)) }
        #expect(samples.p50 == .milliseconds(5))
        #expect(samples.p90 == .milliseconds(9))
        #expect(samples.percentile(100) == .milliseconds(10))
        var single = Samples()
        single.add(.seconds(1))
        #expect(single.p50 == .seconds(1))
        #expect(single.p90 == .seconds(1))
    }

    @Test func timesKeepThreeSignificantDigits() {
        #expect(Figures.milliseconds(.microseconds(842)) == "0.842")
        #expect(Figures.milliseconds(.microseconds(12_480)) == "12.5")
        #expect(Figures.milliseconds(.milliseconds(3410)) == "3410")
        #expect(Figures.milliseconds(nil) == "-")
    }

    @Test func columnsOfATableAreAligned() {
        var table = Table(["ms", "p50"])
        table.add("ExecSync(true)", "12.5")
        #expect(
            table.markdown == """
                | ms             |  p50 |
                | -------------- | ---: |
                | ExecSync(true) | 12.5 |

                """)
    }

    @Test func aTargetThatWasNotMeasuredIsNeitherMetNorMissed() {
        var results = Measurements()
        results.add(.swiftlet, .execSync, .milliseconds(30))
        #expect(Target.all(results).allSatisfy { $0.verdict == "not measured" })
        results.add(.containerd, .execSync, .milliseconds(27))
        let exec = Target.all(results).first { $0.promise.hasPrefix("ExecSync") }
        #expect(exec?.verdict == "ok")
        #expect(exec?.measured == "1.11x")
        results.add(.swiftlet, .runPodSandbox, .milliseconds(1400))
        results.add(.qemu, .boot, .milliseconds(1000))
        #expect(Target.all(results).first?.verdict == "missed")
    }
}

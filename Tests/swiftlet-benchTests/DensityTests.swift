import Testing

@testable import swiftlet_bench

/// The section of `make density` in the page that `make bench` writes.
@Suite struct DensityTests {
    private static let section = "## Density\n\nmany\n"

    @Test func theSectionTakesThePlaceOfItsOwnAlone() {
        let page = "# Performance\n\n## Calls\n\nfew\n"
        let first = DensitySection.put(Self.section, into: page)
        #expect(first == page + "\n" + Self.section)
        let again = DensitySection.put("## Density\n\nmore\n", into: first)
        #expect(again == page + "\n## Density\n\nmore\n")
        let between = page + "\n" + Self.section + "\n## Memory\n\nlittle\n"
        #expect(DensitySection.put("## Density\n\nmore\n", into: between) == page + "\n## Density\n\nmore\n\n## Memory\n\nlittle\n")
    }

    @Test func aNewPageKeepsTheSectionOfTheOldOne() {
        let old = "# Performance\n\n" + Self.section + "\n## Calls\n\nfew\n"
        #expect(DensitySection.keep(of: old, in: "# Performance\n\nnew\n") == "# Performance\n\nnew\n\n" + Self.section)
        #expect(DensitySection.keep(of: "# Performance\n", in: "new\n") == "new\n")
        #expect(DensitySection.keep(of: old, in: old) == old)
    }

    @Test func stepsEndWithTheMost() {
        #expect(Benchmark.densitySteps(most: 100) == [1, 10, 50, 100])
        #expect(Benchmark.densitySteps(most: 10) == [1, 10])
        #expect(Benchmark.densitySteps(most: 1) == [1])
        #expect(Benchmark.densitySteps(most: 120) == [1, 10, 50, 100, 120])
    }

    @Test func thePlotHasAPointForEachNumberOfPods() {
        var figures = DensityFigures()
        for pods in [1, 10] {
            var step = DensityFigures.Step(pods: pods)
            (step.machines, step.daemon) = (UInt64(pods) * 150 << 20, 40 << 20)
            step.podList.add(.milliseconds(pods))
            step.containerList.add(.milliseconds(pods))
            step.starts.add(.milliseconds(2000 + pods * 100))
            figures.steps.append(step)
        }
        let script = figures.plot.script
        #expect(script.contains("\n1.0 150.0\n10.0 150.0\ne\n1.0 40.0\n10.0 40.0\ne\n"))
        #expect(script.contains("\n1.0 1.0\n10.0 10.0\ne\n"))
        #expect(script.contains("\n1.0 2.1\n10.0 3.0\ne\n") && script.contains("multiplot layout 3,1"))
    }
}

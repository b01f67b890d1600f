import Foundation
import FoundationXML
import Testing

@testable import swiftlet_bench

struct PlotTests {
    private static let plot = Plot(
        horizontal: "pods",
        panels: [
            Plot.Panel(
                title: "ListPodSandbox, ms",
                lines: [
                    Plot.Line(name: "swiftlet", points: [(1, 0.5), (100, 4.25)]),
                    Plot.Line(name: "con_{a}\"tainerd\"", points: [(1, 1), (100, 9)]),
                ]),
            Plot.Panel(title: "PSS of one pod, MiB", lines: [Plot.Line(name: "swiftlet", points: [(1, 150)])]),
        ])

    @Test func aLineIsDrawnThroughItsPoints() {
        let script = Self.plot.script
        #expect(script.contains("plot '-' with linespoints pointtype 7 title \"swiftlet\", '-' with linespoints"))
        #expect(script.contains("\n1.0 0.5\n100.0 4.25\ne\n1.0 1.0\n100.0 9.0\ne\n"))
        #expect(script.contains("multiplot layout 2,1"))
    }

    @Test func aPlotIsAWellFormedSVGWithItsNames() async throws {
        let svg = try await Self.plot.svg()
        let parser = XMLParser(data: Data(svg.utf8))
        #expect(parser.parse())
        for text in ["ListPodSandbox, ms", "PSS of one pod, MiB", "con_{a}", ">pods<"] {
            #expect(svg.contains(text), "\(text)")
        }
    }
}

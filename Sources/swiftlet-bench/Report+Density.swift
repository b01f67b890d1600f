import Foundation

/// The section on many idle pods, which has a run of its own (`make density`): the page of a later run of the benchmark keeps it.
enum DensitySection {
    static let title = "## Density\n"
    /// The file with its plot, beside the page.
    static let plot = "density.svg"

    /// The section in a page; nil for a page without one.
    static func find(in page: String) -> Range<String.Index>? {
        guard let start = page.range(of: "\n" + title)?.lowerBound else { return nil }
        let behind = page.index(start, offsetBy: title.count + 1)
        return start..<(page.range(of: "\n## ", range: behind..<page.endIndex)?.lowerBound ?? page.endIndex)
    }

    /// A page with this section in the place of its own, or at its end.
    static func put(_ section: String, into page: String) -> String {
        guard let range = find(in: page) else { return page + "\n" + section }
        return page.replacingCharacters(in: range, with: "\n" + section)
    }

    /// A new page with the section of the page that it replaces.
    static func keep(of old: String, in page: String) -> String {
        guard find(in: page) == nil, let range = find(in: old) else { return page }
        return page + old[range]
    }
}

extension Report {
    /// The whole section, for the page of an earlier run.
    var densitySection: String { "\(DensitySection.title)\n\(density)\n![The same over the number of pods](\(DensitySection.plot))\n" }

    var density: String {
        let figures = results.density
        var table = Table([
            "pods up", "1 pod, PSS MiB", "beyond guest RAM", "without translated code", "CPU of 1 pod, ms/s",
            "swiftletd, PSS MiB", "its CPU, ms/s", "ListPodSandbox p50, ms", "ListContainers p50, ms", "start of a pod p50, ms",
        ])
        for step in figures.steps {
            let pods = UInt64(step.pods)
            let beyond = step.machines - min(step.guestMemory, step.machines)
            table.add(
                "\(step.pods)", Figures.mebibytes(step.machines / pods), Figures.mebibytes(beyond / pods),
                Figures.mebibytes((beyond - min(step.translatedCode, beyond)) / pods),
                Figures.seconds(step.machinesProcessor * 1000 / Double(step.pods)), Figures.mebibytes(step.daemon),
                Figures.seconds(step.daemonProcessor * 1000), Figures.milliseconds(step.podList.p50),
                Figures.milliseconds(step.containerList.p50), Figures.milliseconds(step.starts.p50))
        }
        return table.markdown + (figures.failure.map { "\nNo more pods: \($0)\n" } ?? "") + """

            Idle guests of \(figures.memory) MiB with one container that sleeps, all up at once. A pod is QEMU and swiftlet-vsockd; PSS divides
            what they share (the programs, the guest's kernel and the agent's disk) among them. Guest RAM is a memfd, and counts as far as the guest has touched it;
            translated code is the emulator's, and a machine under KVM has none. swiftletd is with its reaper. Measured 12 s after the last pod's
            start, the processor for 10 s; lists 30 times each. A pod's start is from RunPodSandbox to its container's start, one after the other,
            of those since the row above.

            Date: \(conditions.date). Command: `\(command)`. Machine: \(conditions.machine).

            """
    }
}

extension DensityFigures {
    var plot: Plot {
        func line(_ name: String, _ value: (DensityFigures.Step) -> Double) -> Plot.Line {
            Plot.Line(name: name, points: steps.map { (Double($0.pods), value($0)) })
        }
        let mebibyte = 1_048_576.0
        return Plot(
            horizontal: "pods up",
            panels: [
                Plot.Panel(
                    title: "PSS, MiB",
                    lines: [
                        line("one pod") { Double($0.machines) / Double($0.pods) / mebibyte },
                        line("swiftletd") { Double($0.daemon) / mebibyte },
                    ]),
                Plot.Panel(
                    title: "p50, ms",
                    lines: [
                        line("ListPodSandbox") { $0.podList.p50.milliseconds },
                        line("ListContainers") { $0.containerList.p50.milliseconds },
                    ]),
                Plot.Panel(title: "start of a pod, p50, s", lines: [line("cold") { $0.starts.p50.milliseconds / 1000 }]),
            ])
    }
}

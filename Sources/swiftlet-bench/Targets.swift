import Foundation

/// What a run of the benchmark should show.
struct Target {
    var promise: String
    var measured: String
    /// Nil when a part was not measured.
    var isMet: Bool?

    var verdict: String {
        switch isMet {
        case true?: "ok"
        case false?: "missed"
        case nil: "not measured"
        }
    }

    static func all(_ results: Measurements) -> [Target] {
        [
            ratio("RunPodSandbox, cold <= 1.3x raw QEMU", results.ratio(.swiftlet, .runPodSandbox, to: .qemu, .boot), 1.3),
            ratio("ExecSync(true) <= 1.2x containerd", results.ratio(.swiftlet, .execSync, to: .containerd), 1.2),
            ratio(
                "ListContainers of \(results.fewContainers) <= containerd", results.ratio(.swiftlet, .listFew, to: .containerd), 1),
            ratio(
                "ListContainers of \(results.manyContainers) <= containerd", results.ratio(.swiftlet, .listMany, to: .containerd), 1),
            ratio("StartContainer <= 2x containerd", results.ratio(.swiftlet, .startContainer, to: .containerd), 2),
            memory(results.memory[.swiftlet]),
            listening(results[.qemu, .listening]),
        ]
    }

    private static func ratio(_ promise: String, _ measured: Double?, _ limit: Double) -> Target {
        Target(promise: promise + ", p50", measured: Figures.ratio(measured), isMet: measured.map { $0 <= limit })
    }

    private static func listening(_ samples: Samples?) -> Target {
        Target(
            promise: "agent listening <= 300 ms after its start, p50", measured: Figures.milliseconds(samples?.p50) + " ms",
            isMet: samples.map { $0.p50 <= .milliseconds(300) })
    }

    private static func memory(_ figures: MemoryFigures?) -> Target {
        let measured = figures.flatMap { $0.pods > 0 ? $0.daemonWithPods : nil }
        return Target(
            promise: "swiftletd with \(figures?.pods ?? 0) pods <= 60 MB resident",
            measured: measured.map { String(format: "%.1f MB", Double($0) / 1e6) } ?? Figures.missing,
            isMet: measured.map { $0 <= 60_000_000 })
    }
}

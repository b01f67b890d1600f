extension Report {
    var starts: String {
        var table = Table(["ms", "p50", "p90", "p99", "n", "ratio of p50 to containerd's", "of p99"])
        for step in StartStep.allCases {
            for kind in StartKind.allCases {
                guard let samples = results.starts[kind, step] else { continue }
                let isReference = kind == .containerd
                table.add(
                    "\(name(step)), \(kind.rawValue)", Figures.milliseconds(samples.p50), Figures.milliseconds(samples.p90),
                    Figures.milliseconds(samples.p99), count(samples), isReference ? "" : Figures.ratio(results.starts.ratio(kind, step)),
                    isReference ? "" : Figures.ratio(results.starts.ratio(kind, step, 99)))
            }
        }
        return table.markdown
    }

    private func name(_ step: StartStep) -> String {
        let count = results.starts.atOnce
        return switch step {
        case .run: "RunPodSandbox"
        case .create: "CreateContainer"
        case .start: "StartContainer"
        case .firstLine: "all three to the first log line"
        case .eachAtOnce: "\(count) pods at once, each to its first log line"
        case .allAtOnce: "\(count) pods at once, to the last one's"
        }
    }
}

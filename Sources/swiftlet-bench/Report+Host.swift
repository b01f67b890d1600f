extension Report {
    var host: String {
        var table = Table(["ms", "p50", "p90", "n", "ratio of p50 to containerd's"])
        for operation in HostFigures.calls {
            for kind in HostKind.allCases {
                guard let samples = results.host[kind, operation] else { continue }
                table.add(
                    "\(operation.onNode), \(kind.rawValue)", Figures.milliseconds(samples.p50), Figures.milliseconds(samples.p90),
                    count(samples), kind == .containerd ? "" : Figures.ratio(results.host.ratio(kind, operation)))
            }
        }
        var memory = Table(["PSS beside a container, MiB", ""])
        for kind in HostKind.allCases {
            guard let bytes = results.host.besideContainer[kind] else { continue }
            memory.add(kind.rawValue, Figures.mebibytes(bytes))
        }
        return table.markdown + "\n" + memory.markdown
            + "\nBeside a container runs conmon; of containerd its shim, which the pod's containers share.\n"
    }
}

extension Report {
    var virtualMachines: String {
        var table = Table(["ms", "swiftlet p50", "p90", "n", "raw QEMU p50", "p90", "n", "ratio of p50"])
        for operation in Operation.virtualMachines {
            let (swiftlet, raw) = (results[.swiftlet, operation], results[.qemu, operation])
            guard swiftlet != nil else { continue }
            table.add(
                operation.rawValue, Figures.milliseconds(swiftlet?.p50), Figures.milliseconds(swiftlet?.p90), count(swiftlet),
                Figures.milliseconds(raw?.p50), Figures.milliseconds(raw?.p90), count(raw),
                Figures.ratio(results.ratio(.swiftlet, operation, to: .qemu)))
        }
        let figures = results.vm
        var others = Table(["", "swiftlet", "raw QEMU", "ratio"])
        others.add(
            "console, \(figures.consoleBytes) bytes at once, s in the guest", Figures.seconds(seconds(figures.consoleTime)),
            Figures.seconds(seconds(figures.rawConsoleTime)), Figures.ratio(figures.consoleRatio))
        others.add(
            "QEMU's processor time for it, s", Figures.seconds(figures.consoleProcessorTime),
            Figures.seconds(figures.rawConsoleProcessorTime), Figures.ratio(figures.consoleProcessorRatio))
        others.add("PSS beyond guest RAM, MiB", Figures.mebibytes(figures.memory), Figures.mebibytes(figures.rawMemory), "")
        others.add(
            "of it code that is translated, MiB", Figures.mebibytes(figures.translatedCode), Figures.mebibytes(figures.rawTranslatedCode),
            "")
        return table.markdown + "\n" + others.markdown
            + """

            The pod's log \(figures.isConsoleWhole ? "holds every byte of it." : "does not hold it whole.") PSS is of the pod's processes, from
            smaps_rollup without its shared memory, which is the guest's RAM: a memfd. Translated code is the emulator's: under KVM there is none.

            """
    }

    private func seconds(_ time: Duration?) -> Double? { time.map { $0.milliseconds / 1000 } }
}

extension Report {
    var sessions: String {
        [opening, transfers, connections, sessionMemory].filter { !$0.isEmpty }.joined(separator: "\n")
    }

    private var opening: String {
        var table = Table([
            "ms, from Exec to the first byte", "swiftlet p50", "p90", "p99", "n", "containerd p50", "p90", "p99", "n", "ratio of p50",
        ])
        for operation in Operation.sessions {
            let (swiftlet, containerd) = (results[.swiftlet, operation], results[.containerd, operation])
            guard swiftlet != nil || containerd != nil else { continue }
            table.add(
                operation.rawValue, Figures.milliseconds(swiftlet?.p50), Figures.milliseconds(swiftlet?.p90),
                Figures.milliseconds(swiftlet?.p99), count(swiftlet), Figures.milliseconds(containerd?.p50),
                Figures.milliseconds(containerd?.p90), Figures.milliseconds(containerd?.p99), count(containerd),
                Figures.ratio(results.ratio(.swiftlet, operation, to: .containerd)))
        }
        return table.isEmpty ? "" : table.markdown
    }

    private var transfers: String {
        let ceiling = results.rate(.qemu, .vsock)
        var table = Table(["MB/s of 100 MB", "swiftlet", "containerd", "ratio", "of raw vsock"])
        for transfer in Transfer.allCases {
            let (swiftlet, containerd) = (
                results.rate(transfer == .vsock || transfer == .forwarded ? .qemu : .swiftlet, transfer),
                results.rate(.containerd, transfer)
            )
            guard swiftlet != nil || containerd != nil else { continue }
            table.add(
                transfer.rawValue, Figures.rate(swiftlet), Figures.rate(containerd), Figures.ratio(quotient(swiftlet, containerd)),
                Figures.ratio(quotient(swiftlet, ceiling)))
        }
        guard !table.isEmpty else { return "" }
        return table.markdown
            + """

            Medians of \(plan.transfers), from the first byte to the last. Raw vsock is what a guest carries that has neither agent nor
            containers: one process writes, swiftlet-vsockd hands it to the client. It is the emulated guest's ceiling;
            with a TCP connection on the guest's loopback before it, it is a forwarded port's, whatever the agent is. The agent's stream
            is what is left of it for a process of a container, before swiftlet-streamd. \(loss)

            """
    }

    /// Only an attach can lose bytes: a slow client does not hold up its container.
    private var loss: String {
        let lost = results.lost.values.reduce(0, +)
        return lost == 0 ? "No byte was lost." : "Attached clients lost \(lost) bytes."
    }

    private var connections: String {
        guard let wanted = results.connections.values.map(\.wanted).max() else { return "" }
        var table = Table(["port-forward, \(wanted) connections at once", "swiftlet", "containerd", "ratio"])
        let (swiftlet, containerd) = (results.connections[.swiftlet], results.connections[.containerd])
        table.add("served", swiftlet.map { "\($0.served)" } ?? Figures.missing, containerd.map { "\($0.served)" } ?? Figures.missing, "")
        table.add(
            "ms until all were, p50", Figures.milliseconds(swiftlet?.times.p50), Figures.milliseconds(containerd?.times.p50),
            Figures.ratio(quotient(swiftlet?.times.p50.milliseconds, containerd?.times.p50.milliseconds)))
        return table.markdown
    }

    private var sessionMemory: String {
        guard let memory = results.sessionMemory else { return "" }
        var table = Table(["swiftlet-streamd, MiB", "RSS", "PSS"])
        table.add("before", Figures.mebibytes(memory.residentBefore), "")
        table.add("\(memory.sessions) sessions open", Figures.mebibytes(memory.resident), Figures.mebibytes(memory.proportional))
        return table.markdown
    }

    // MARK: Logs

    var logs: String {
        let (swiftlet, containerd) = (results.logs[.swiftlet], results.logs[.containerd])
        guard let containers = (swiftlet ?? containerd)?.containers else { return "" }
        var table = Table(["\(containers) containers at full speed", "swiftlet", "containerd", "ratio"])
        table.add(
            "MB/s to the logs", Figures.rate(swiftlet?.rate), Figures.rate(containerd?.rate),
            Figures.ratio(quotient(swiftlet?.rate, containerd?.rate)))
        func processorTime(_ what: String, _ ours: [String], _ theirs: [String]) {
            let (first, second) = (
                ours.isEmpty ? nil : swiftlet?.processorTime(of: ours), theirs.isEmpty ? nil : containerd?.processorTime(of: theirs)
            )
            table.add(what, Figures.seconds(first), Figures.seconds(second), Figures.ratio(quotient(first, second)))
        }
        processorTime(
            "CPU seconds per 100 MB, runtime", ["swiftlet-streamd", "swiftlet-vsockd", "swiftletd"],
            ["containerd", "containerd-shim-runc-v2"])
        processorTime("swiftlet-streamd; containerd", ["swiftlet-streamd"], ["containerd"])
        processorTime("swiftlet-vsockd; shims", ["swiftlet-vsockd"], ["containerd-shim-runc-v2"])
        processorTime("QEMU, with the guest in it; the containers", ["qemu-system-x86_64"], ["yes"])
        return table.markdown
            + """

            Lines of 100 bytes, counted as they are in the logs, with their headers of 39 to 44 bytes. Both runtimes have the machine's processors
            for themselves and their containers: the emulated guest has one.

            """
    }

    private func quotient(_ first: Double?, _ second: Double?) -> Double? {
        guard let first, let second, second > 0 else { return nil }
        return first / second
    }
}

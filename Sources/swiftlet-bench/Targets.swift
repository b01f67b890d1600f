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
            ratio("RunPodSandbox from the pool <= 1.2x containerd", results.starts.ratio(.pool, .run), 1.2),
            ratio("RunPodSandbox from the pool <= 2x containerd", results.starts.ratio(.pool, .run, 99), 2, at: "p99"),
            milliseconds("CreateContainer from the pool", results.starts[.pool, .create], 120),
            ratio("from the pool to the first log line <= 2x containerd", results.starts.ratio(.pool, .firstLine), 2),
            ratio("\(results.starts.atOnce) pods at once from the pool <= 2.5x containerd", results.starts.ratio(.pool, .allAtOnce), 2.5),
            memory(results.memory[.swiftlet]),
            listening(results[.qemu, .listening]),
            ratio("exec by SPDY to the first byte <= 1.5x containerd", results.ratio(.swiftlet, .execBySPDY, to: .containerd), 1.5),
            ratio(
                "exec by WebSocket to the first byte <= 1.5x containerd", results.ratio(.swiftlet, .execByWebSocket, to: .containerd),
                1.5),
            transfer("exec, 100 MB of stdout >= 0.5x containerd", .execSPDY, results),
            transfer("attach, 100 MB >= 0.5x containerd", .attach, results),
            transfer("port-forward, 100 MB >= 0.5x containerd", .portForward, results),
            connections(results.connections[.swiftlet]),
            sessionMemory(results.sessionMemory),
            ratio(
                "VM, StartContainer to the first serial byte <= 1.15x raw QEMU",
                results.ratio(.swiftlet, .vmFirstByte, to: .qemu), 1.15),
            Target(
                promise: "VM, QEMU and its helpers beyond the guest's RAM <= 80 MB", measured: megabytes(results.vm.memory),
                isMet: results.vm.memory.map { $0 <= 80_000_000 }),
            console(results.vm),
            milliseconds("VM, ExecSync(true) by swiftlet-agent", results[.swiftlet, .vmExecByAgent], 60),
        ] + host(results.host)
    }

    /// Those of a runtime that the node's control groups are not for are left out.
    private static func host(_ figures: HostFigures) -> [Target] {
        [HostKind.runc, .crun].filter { $0 == .runc || figures[$0, .runPodSandbox] != nil }.flatMap { kind in
            let name = "pods on the node by \(kind)"
            return HostFigures.calls.map { call in
                ratio("\(name), \(call.onNode) <= \(kind.limit)x containerd", figures.ratio(kind, call), kind.limit)
            } + [
                Target(
                    promise: "\(name), beside a container <= 4 MB", measured: megabytes(figures.besideContainer[kind]),
                    isMet: figures.besideContainer[kind].map { $0 <= 4_000_000 })
            ]
        }
    }

    private static func ratio(_ promise: String, _ measured: Double?, _ limit: Double, at percentile: String = "p50") -> Target {
        Target(promise: promise + ", " + percentile, measured: Figures.ratio(measured), isMet: measured.map { $0 <= limit })
    }

    /// What the emulated guest carries at all is told apart.
    private static func transfer(_ promise: String, _ transfer: Transfer, _ results: Measurements) -> Target {
        let (ours, theirs, ceiling) = (
            results.rate(.swiftlet, transfer), results.rate(.containerd, transfer),
            results.rate(.qemu, transfer == .portForward ? .forwarded : .vsock)
        )
        guard let ours, let theirs else { return Target(promise: promise, measured: Figures.missing, isMet: nil) }
        let guest = ceiling.map { "; bare guest \(Figures.ratio($0 / theirs))" } ?? ""
        return Target(promise: promise, measured: Figures.ratio(ours / theirs) + guest, isMet: ours / theirs >= 0.5)
    }

    private static func connections(_ connections: Connections?) -> Target {
        Target(
            promise: "port-forward, \(connections?.wanted ?? 0) connections at once, all served",
            measured: connections.map { "\($0.served)" } ?? Figures.missing, isMet: connections.map { $0.served == $0.wanted })
    }

    private static func sessionMemory(_ memory: SessionMemory?) -> Target {
        Target(
            promise: "swiftlet-streamd with \(memory?.sessions ?? 0) sessions <= 40 MB resident", measured: megabytes(memory?.resident),
            isMet: memory.map { $0.resident <= 40_000_000 })
    }

    private static func console(_ figures: VMFigures) -> Target {
        let ratio = figures.consoleRatio
        return Target(
            promise: "VM, console output whole and <= 1.2x raw QEMU's time",
            measured: Figures.ratio(ratio) + (ratio == nil || figures.isConsoleWhole ? "" : ", not whole"),
            isMet: ratio.map { $0 <= 1.2 && figures.isConsoleWhole })
    }

    private static func milliseconds(_ what: String, _ samples: Samples?, _ limit: Int) -> Target {
        Target(
            promise: "\(what) <= \(limit) ms, p50", measured: Figures.milliseconds(samples?.p50) + " ms",
            isMet: samples.map { $0.p50 <= .milliseconds(limit) })
    }

    private static func megabytes(_ bytes: UInt64?) -> String {
        bytes.map { String(format: "%.1f MB", Double($0) / 1e6) } ?? Figures.missing
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
            measured: megabytes(measured), isMet: measured.map { $0 <= 60_000_000 })
    }
}

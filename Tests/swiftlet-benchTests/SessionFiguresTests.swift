import Testing

@testable import swiftlet_bench

@Suite struct SessionFiguresTests {
    private func results(exec: Double, containerd: Double, vsock: Double) -> Measurements {
        var results = Measurements()
        for (subject, transfer, rate) in [
            (Subject.swiftlet, Transfer.execSPDY, exec), (.containerd, .execSPDY, containerd), (.qemu, .vsock, vsock),
        ] {
            results.add(subject, transfer, Throughput(bytes: Int(rate * 1e6), time: .seconds(1)))
        }
        return results
    }

    @Test func processorTimeIsReadBehindWhateverTheProgramIsCalled() {
        let stat = "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 2103 0 0 0 250 31 7 9 20 0 12 0 85 0 0"
        #expect(ProcessorTime.ticks(inStat: stat) == 281)
        #expect(ProcessorTime.ticks(inStat: "4711 (short) S 1 2") == nil)
        #expect(ProcessorTime.ticks(inStat: "") == nil)
    }

    @Test func logsAreCountedByTheirBytesAndPrograms() {
        let figures = LogFigures(
            containers: 4, bytes: 250_000_000, time: .milliseconds(2500), processorTime: ["swiftlet-streamd": 1.5, "swiftlet-vsockd": 1])
        #expect(figures.rate == 100)
        #expect(figures.processorTime(of: ["swiftlet-streamd", "swiftlet-vsockd", "swiftletd"]) == 1)
        #expect(figures.processorTime(of: ["swiftletd"]) == 0)
        let nothing = LogFigures(containers: 4, bytes: 0, time: .seconds(1), processorTime: [:])
        #expect(nothing.processorTime(of: ["swiftletd"]) == nil)
    }

    @Test func aTransferLastsFromItsFirstByteToItsLast() {
        let start = ContinuousClock.now
        var count = TransferCount()
        count.add(10, at: start + .seconds(3))
        #expect(count.throughput == nil)
        count.add(1_999_990, at: start + .seconds(4))
        #expect(count.throughput?.rate == 2)
    }

    @Test func theMedianOfTransfersIsOneOfThem() {
        var all = Throughputs()
        #expect(all.median == nil)
        for rate in [30, 10, 20, 40] { all.add(Throughput(bytes: rate * 1_000_000, time: .seconds(1))) }
        #expect(all.median == 20)
    }

    @Test func aTransferIsJudgedBesideContainerdAndTheGuestToldApart() {
        let missed = Target.all(results(exec: 20, containerd: 100, vsock: 50)).first { $0.promise.hasPrefix("exec, 100 MB") }
        #expect(missed?.measured == "0.20x; bare guest 0.50x")
        #expect(missed?.verdict == "missed")
        let met = Target.all(results(exec: 50, containerd: 100, vsock: 50)).first { $0.promise.hasPrefix("exec, 100 MB") }
        #expect(met?.verdict == "ok")
    }

    @Test func connectionsAreAllServedOrTheTargetIsMissed() {
        var results = Measurements()
        var connections = Connections(wanted: 200)
        for served in [200, 199, 200] { connections.add(served: served, .seconds(1)) }
        results.connections[.swiftlet] = connections
        let target = Target.all(results).first { $0.promise.hasPrefix("port-forward, 200") }
        #expect(target?.measured == "199")
        #expect(target?.verdict == "missed")
    }

    @Test func aPartOfTheRunHasItsOwnSectionsAlone() {
        let plan = BenchmarkPlan(
            subjects: Subject.allCases, sections: [.sessions], rounds: 1, warmUpRounds: 0, execs: 1, lists: 1, manyContainers: 10,
            sessions: 100, transfers: 3, memoryPods: 1)
        let conditions = RunConditions(date: "now", machine: "one", host: "Linux", versions: [], load: "0")
        let page = Report(
            results: results(exec: 20, containerd: 100, vsock: 50), plan: plan, machine: MachineShape(accelerator: .tcg),
            conditions: conditions, sizes: GuestSizes(), command: "swiftlet-bench"
        ).markdown
        let titles = page.split(separator: "\n").filter { $0.hasPrefix("## ") }
        #expect(titles == ["## Targets", "## Sessions", "## The guest", "## How it was measured"])
        #expect(page.contains("A run of a part of the benchmark (sessions)."))
        #expect(page.contains("| exec, stdout by SPDY      |     20.0 |        100 | 0.20x |        0.40x |"), "\(page)")
    }

    @Test func aForwardedPortIsComparedWithTheBareGuestsOwn() {
        var results = Measurements()
        for (subject, transfer, rate) in [
            (Subject.swiftlet, Transfer.portForward, 150), (.containerd, .portForward, 500), (.qemu, .vsock, 500), (.qemu, .forwarded, 200),
        ] {
            results.add(subject, transfer, Throughput(bytes: rate * 1_000_000, time: .seconds(1)))
        }
        let target = Target.all(results).first { $0.promise.hasPrefix("port-forward, 100 MB") }
        #expect(target?.measured == "0.30x; bare guest 0.40x" && target?.verdict == "missed")
    }
}

import Testing

@testable import swiftlet_bench

@Suite struct HostFiguresTests {
    private static func times(_ milliseconds: Int64) -> [(Operation, Duration)] {
        HostFigures.calls.map { ($0, .milliseconds(milliseconds)) }
    }

    @Test func eachRuntimeHasItsOwnLimitAndAnAbsentOneHasNone() {
        var results = Measurements()
        func verdicts() -> [String: String] {
            let targets = Target.all(results).filter { $0.promise.hasPrefix("pods on the node") }
            return Dictionary(uniqueKeysWithValues: targets.map { ($0.promise, $0.verdict) })
        }
        #expect(verdicts().count == 6 && verdicts().values.allSatisfy { $0 == "not measured" })
        results.host.add(.containerd, Self.times(100))
        results.host.add(.runc, Self.times(105))
        results.host.besideContainer[.runc] = 4_000_001
        #expect(verdicts()["pods on the node by runc, RunPodSandbox <= 1.1x containerd, p50"] == "ok")
        #expect(verdicts()["pods on the node by runc, beside a container <= 4 MB"] == "missed")
        #expect(verdicts().values.count { $0 == "ok" } == 5 && verdicts().count == 6)
        results.host.add(.crun, Self.times(105))
        #expect(verdicts()["pods on the node by crun, ExecSync(true) <= 1.0x containerd, p50"] == "missed")
        #expect(verdicts().count == 12)
    }
}

import Foundation
import Testing

@testable import swiftlet_bench

@Suite struct StartFiguresTests {
    private static func start(_ milliseconds: Int64) -> Workload.Start {
        Workload.Start(pod: "pod", times: [(.run, .milliseconds(milliseconds)), (.firstLine, .milliseconds(milliseconds * 2))])
    }

    @Test func startsFromThePoolAreComparedWithContainerdsOfTheSameSection() {
        var results = Measurements()
        results.starts.atOnce = 8
        func verdicts() -> [String: String] {
            let targets = Target.all(results).filter { $0.promise.contains("from the pool") }
            return Dictionary(uniqueKeysWithValues: targets.map { ($0.promise, $0.verdict) })
        }
        #expect(verdicts().count == 5 && verdicts().values.allSatisfy { $0 == "not measured" })
        for time in 1...100 { results.starts.add(.containerd, Self.start(Int64(time))) }
        for time in 1...100 { results.starts.add(.pool, Self.start(time == 100 ? 1000 : Int64(time))) }
        results.starts.add(.pool, .create, .milliseconds(121))
        results.starts.add(.pool, .allAtOnce, .milliseconds(2500))
        results.starts.add(.containerd, .allAtOnce, .milliseconds(1000))
        #expect(results.starts.ratio(.pool, .run) == 1 && results.starts.ratio(.pool, .run, 99) == 1)
        #expect(results.starts.ratio(.pool, .run, 100) == 10 && results.starts.ratio(.cold, .run) == nil)
        #expect(
            verdicts() == [
                "RunPodSandbox from the pool <= 1.2x containerd, p50": "ok", "RunPodSandbox from the pool <= 2x containerd, p99": "ok",
                "CreateContainer from the pool <= 120 ms, p50": "missed",
                "from the pool to the first log line <= 2x containerd, p50": "ok",
                "8 pods at once from the pool <= 2.5x containerd, p50": "ok",
            ])
    }

    @Test func aLogHasALineAsSoonAsItHasAByte() throws {
        let path = "/tmp/swiftlet-bench-line-\(UUID())"
        defer { try? FileManager.default.removeItem(atPath: path) }
        #expect(!LogFile.hasLine(path))
        try Data().write(to: URL(filePath: path))
        #expect(!LogFile.hasLine(path))
        try Data("x".utf8).write(to: URL(filePath: path))
        #expect(LogFile.hasLine(path))
    }
}

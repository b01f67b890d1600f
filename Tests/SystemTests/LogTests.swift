import CRI
import Foundation
import GRPC
import Testing

@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("logs"))
struct LongLogTests {
    /// 100 blocks of 16,384 numbered lines of 64 bytes, each block behind a line with its own number: 100 MiB.
    @Test func aLogOf100MegabytesIsCompleteLineByLine() async throws {
        let node = try node()
        let pod = try await node.runPod("log")
        let script = """
            awk 'BEGIN { for (i = 1; i <= 16384; i++) printf "%-63d\\n", i }' > /tmp/block
            b=1; while [ $b -le 100 ]; do echo block $b; cat /tmp/block; b=$((b + 1)); done
            """
        let container = try await node.runContainer(in: pod, "big", ["/bin/sh", "-c", script])
        let exit = try await node.exit(of: container, within: .seconds(600))
        #expect(exit.exitCode == 0)
        let data = try Data(contentsOf: URL(fileURLWithPath: "\(node.logs)/big.log"), options: .alwaysMapped)
        #expect(Self.firstGap(in: data) == nil)
        try await node.removePod(pod)
    }

    /// 4,000 lines of 100 bytes, of which a second's worth and one piece come at once.
    @Test func aLogKeepsToItsPodsBudgetAndLosesNothing() async throws {
        let node = try node()
        let pod = try await node.runPod("budget") { $0.annotations["swiftlet/log-bytes-per-second"] = "100000" }
        let script = "awk 'BEGIN { for (i = 1; i <= 4000; i++) printf \"%-99d\\n\", i }'"
        let began = ContinuousClock.now
        let container = try await node.runContainer(in: pod, "budget", ["/bin/sh", "-c", script])
        #expect(try await node.exit(of: container, within: .seconds(600)).exitCode == 0)
        #expect(ContinuousClock.now - began >= .milliseconds(2340))
        let log = try String(contentsOfFile: "\(node.logs)/budget.log", encoding: .utf8)
        let numbers = log.split(separator: "\n").map { $0.split(separator: " ").dropFirst(3).first.flatMap { Int($0) } }
        #expect(numbers == Array(1...4000))
        let refused = await #expect(throws: GRPCStatus.self) {
            _ = try await node.runPod("refused") { $0.annotations["swiftlet/log-bytes-per-second"] = "fast" }
        }
        #expect(refused?.code == .invalidArgument && refused?.message.contains("swiftlet/log-bytes-per-second") == true)
        try await node.removePod(pod)
    }

    /// 4,000 lines of 100 bytes at 1,000 bytes a second would take 400 s.
    @Test func whatABudgetHoldsUpIsWrittenBeforeTheContainerGoes() async throws {
        let node = try node()
        let pod = try await node.runPod("low") { $0.annotations["swiftlet/log-bytes-per-second"] = "1000" }
        let script = "awk 'BEGIN { for (i = 1; i <= 4000; i++) printf \"%-99d\\n\", i }'"
        let container = try await node.runContainer(in: pod, "low", ["/bin/sh", "-c", script])
        #expect(try await node.exit(of: container, within: .seconds(60)).exitCode == 0)
        try await node.removeContainer(container)
        let log = try String(contentsOfFile: "\(node.logs)/low.log", encoding: .utf8)
        let numbers = log.split(separator: "\n").map { $0.split(separator: " ").dropFirst(3).first.flatMap { Int($0) } }
        #expect(numbers == Array(1...4000))
        try await node.removePod(pod)
    }

    /// The first line that is not what the container wrote; nil when all are there.
    private static func firstGap(in log: Data) -> String? {
        // "2026-01-02T03:04:05.000000006Z stdout F " stands before each line.
        let prefix = 40
        var expected = (0..<100).lazy.flatMap { block in ["block \(block + 1)"] + Self.block }.makeIterator()
        for line in log.split(separator: 0x0A) {
            guard let text = expected.next() else { return "more lines than were written" }
            guard line.dropFirst(prefix).elementsEqual(text.utf8) else {
                return "\"\(String(decoding: line.prefix(120), as: UTF8.self))\" where \"\(text)\" was written"
            }
        }
        return expected.next().map { "the log ends before \"\($0)\"" }
    }

    private static let block = (1...16384).map { number in
        let digits = String(number)
        return digits + String(repeating: " ", count: 63 - digits.count)
    }
}

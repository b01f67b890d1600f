import CRI
import Foundation
import Support
import Testing

@Suite(.enabled(if: systemTestsEnabled), .serialized, .node("logs"))
struct ContainerLogTests {
    /// 1,600,000 numbered lines of 64 bytes.
    @Test func aLogOf100MegabytesIsCompleteLineByLine() async throws {
        let node = try node()
        let pod = try await node.runPod("log")
        let container = try await node.runContainer(
            in: pod, "big",
            ["/bin/awk", "BEGIN { for (i = 1; i <= 1600000; i++) printf \"%-63d\\n\", i }"])
        let exit = try await node.exit(of: container, within: .seconds(600))
        #expect(exit.exitCode == 0)
        var expected = 1
        var bytes = 0
        let data = try Data(contentsOf: URL(fileURLWithPath: "\(node.logs)/big.log"), options: .alwaysMapped)
        for line in data.split(separator: 0x0A) {
            let content = line.drop { $0 != 0x20 }.dropFirst(10)
            let number = content.prefix { $0 != 0x20 }
            guard number.elementsEqual(String(expected).utf8) else {
                Issue.record("line \(expected) reads \(String(decoding: line.prefix(100), as: UTF8.self))")
                break
            }
            bytes += content.count + 1
            expected += 1
        }
        #expect(expected == 1_600_001)
        #expect(bytes == 1_600_000 * 64)
        try await node.removePod(pod)
    }
}

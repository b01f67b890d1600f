import CRI
import Foundation
import Testing

@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("restart"))
struct RestartTests {
    @Test func aKilledDaemonLosesNoPodNoLineAndNoExitCode() async throws {
        let node = try node()
        let pod = try await node.runPod("survivor")
        let count = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; [ $((i % 20)) = 0 ] && sleep 0.05; done; exit 5"
        let counter = try await node.runContainer(in: pod, "counter", ["/bin/sh", "-c", count])
        let ended = try await node.runContainer(in: pod, "ended", ["/bin/sh", "-c", "sleep 2; echo bye; exit 9"])
        for _ in 0..<3 {
            let seen = (try? node.log("counter").count) ?? 0
            try await node.waitForLog("counter", lines: min(seen + 100, 2900))
            await node.kill()
            try await node.launch()
            #expect(try await node.podStatus(pod).status.state == .sandboxReady)
        }
        #expect(try await node.exit(of: counter).exitCode == 5)
        #expect(try await node.exit(of: ended).exitCode == 9)
        #expect(try node.log("counter") == (1...3000).map { "stdout F line \($0)" })
        #expect(try node.log("ended") == ["stdout F bye"])
        let again = try await node.runContainer(in: pod, "again", ["/bin/echo", "still here"])
        #expect(try await node.exit(of: again).exitCode == 0)
        try await node.removePod(pod)
    }
}

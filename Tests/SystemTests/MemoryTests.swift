import Foundation
import Linux
import Testing

/// What a pod's machine holds of the node's memory.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(5)), .serialized, .node("memory"))
struct MemoryTests {
    /// MiB of a machine's RAM, a memfd, that are the node's no more.
    private static func guestMemory(of machine: pid_t) throws -> Int {
        let text = try String(contentsOfFile: "/proc/\(machine)/smaps_rollup", encoding: .utf8)
        let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("Pss_Shmem:") })
        return try #require(line.split(separator: " ").dropFirst().first.flatMap { Int($0) }) >> 10
    }

    /// Free page reporting, by the balloon device: of a container's 60 MiB, what is free again in large pieces comes back by itself.
    @Test func memoryThatAGuestFreesIsTheNodesAgain() async throws {
        let node = try node()
        let pod = try await node.runPod("memory")
        let container = try await node.runContainer(in: pod, "main", ["/bin/sleep", "6000"])
        let machine = try await node.machine(of: pod)
        _ = try await node.shell(container, "dd if=/dev/zero of=/dev/shm/file bs=1M count=60 2>/dev/null && sleep 8")
        let full = try Self.guestMemory(of: machine)
        _ = try await node.shell(container, "rm /dev/shm/file")
        let deadline = ContinuousClock.now + .seconds(30)
        var left = full
        while left > full - 45, ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(500))
            left = try Self.guestMemory(of: machine)
        }
        #expect(left <= full - 45, "\(full) MiB with the file, \(left) without")
        try await node.removePod(pod)
    }
}

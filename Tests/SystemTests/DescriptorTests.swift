import CRI
import Foundation
import Support
import Testing

/// What pods and containers take of the daemon's open files.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(10)), .serialized, .node("descriptors"))
struct DescriptorTests {
    @Test func aContainerTakesNoMoreDescriptorsThanCounted() async throws {
        let node = try node()
        let containers = 30
        // What a first pod takes once.
        let first = try await node.runPod("first")
        let before = try await node.openFiles()
        let pod = try await node.runPod("descriptors")
        let withPod = try await node.openFiles()
        // swiftletd's OpenFiles counts with these.
        #expect(withPod - before <= 10, "a pod takes \(withPod - before)")
        for index in 0..<containers { _ = try await node.runContainer(in: pod, "c\(index)", ["/bin/sleep", "6000"]) }
        var taken = 0
        try await eventually("what only a start takes is closed: \(taken) for \(containers)") {
            taken = try await node.openFiles() - withPod
            return taken <= 3 * containers
        }
        try await node.removePod(pod)
        try await eventually("all is closed with the pod") { try await node.openFiles() <= before + 10 }
        try await node.removePod(first)
    }
}

extension Node {
    /// Open files of the daemon.
    fileprivate func openFiles() throws -> Int {
        // The daemon runs as a child of its subreaper.
        let pids = try FileManager.default.contentsOfDirectory(atPath: "/proc").filter { Int($0) != nil }
        let daemons = pids.filter { pid in
            let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline").map { String(decoding: $0, as: UTF8.self) } ?? ""
            return line.contains("swiftletd") && line.contains(root + "/swiftletd.toml")
        }
        return daemons.compactMap { try? FileManager.default.contentsOfDirectory(atPath: "/proc/\($0)/fd").count }.max() ?? 0
    }
}

import Foundation
import Glibc

extension Benchmark {
    private static let writers = 4
    /// With its newline 100 bytes.
    private static let line = String(repeating: "0123456789 ", count: 9)
    /// Until all write and caches are filled.
    private static let warmUp = Duration.seconds(2)
    private static let time = Duration.seconds(5)

    /// Four containers of one pod write lines as fast as they can.
    mutating func measureLogs() async throws {
        for node in nodes {
            progress("logs: \(node.subject)'s \(Self.writers) containers")
            results.logs[node.subject] = try await logs(of: node)
        }
    }

    private func logs(of node: any RuntimeNode) async throws -> LogFigures {
        let (name, cri) = ("logs-\(node.subject)", try await node.cri)
        let pod = try await workload.runPod(name, on: cri)
        let writers = (1...Self.writers).map { "writer-\($0)" }
        var containers: [String] = []
        for writer in writers {
            containers.append(
                try await workload.createContainer(writer, in: pod, podName: name, command: ["/bin/yes", Self.line], on: cri))
        }
        for container in containers { try await workload.startContainer(container, on: cri) }
        let files = writers.map { workload.log(of: $0, podName: name) }
        try await Task.sleep(for: Self.warmUp)
        let (start, before, size) = (ContinuousClock.now, ProcessorTime.now(below: node.directories), Self.size(of: files))
        try await Task.sleep(for: Self.time)
        let written = Self.size(of: files) - size
        let (end, after) = (ContinuousClock.now, ProcessorTime.now(below: node.directories))
        try await workload.removePod(pod, on: cri)
        for file in files { try FileManager.default.removeItem(atPath: file) }
        return LogFigures(containers: Self.writers, bytes: written, time: end - start, processorTime: after.since(before))
    }

    private static func size(of files: [String]) -> UInt64 {
        files.reduce(0) { sum, file in
            var information = stat()
            return sum + (stat(file, &information) == 0 ? UInt64(information.st_size) : 0)
        }
    }
}

import Foundation
import Logging
import Testing

@testable import Machines

struct ConsoleLogsTests {
    private func withFile(_ body: (String) async throws -> Void) async throws {
        let path = NSTemporaryDirectory() + "console-\(UInt32.random(in: 0 ... .max)).log"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try await body(path)
    }

    private func size(_ path: String) throws -> Int {
        try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int ?? 0
    }

    @Test func aLogThatIsTooLongKeepsItsEnd() async throws {
        try await withFile { path in
            let bytes = Data((0..<ConsoleLogs.limit + 1).map { UInt8(truncatingIfNeeded: $0 / 251) })
            try bytes.dropLast().write(to: URL(filePath: path))
            try ConsoleLogs.cut(path)
            #expect(try size(path) == ConsoleLogs.limit, "one of the limit's length stays")
            try bytes.write(to: URL(filePath: path))
            try ConsoleLogs.cut(path)
            #expect(try Data(contentsOf: URL(filePath: path)) == bytes.suffix(ConsoleLogs.kept))
            try ConsoleLogs.cut(path + "-absent")
        }
    }

    @Test func aLogThatSomebodyReadsKeepsItsOffsets() async throws {
        try await withFile { path in
            let bytes = Data((0..<(2 << 20)).map { UInt8(truncatingIfNeeded: $0 / 251) })
            try bytes.write(to: URL(filePath: path))
            try ConsoleLogs.release(path, limit: 3 << 20, kept: 1 << 20)
            #expect(try Data(contentsOf: URL(filePath: path)) == bytes, "what takes less than the limit stays")
            try ConsoleLogs.release(path, limit: 1 << 20, kept: 256 << 10)
            let now = try Data(contentsOf: URL(filePath: path))
            #expect(now.count == bytes.count)
            #expect(now.suffix(256 << 10) == bytes.suffix(256 << 10))
            #expect(now.prefix(bytes.count - (256 << 10)).allSatisfy { $0 == 0 })
            var status = stat()
            #expect(stat(path, &status) == 0 && status.st_blocks * 512 <= 260 << 10)
            try ConsoleLogs.release(path + "-absent")
        }
    }

    /// As QEMU's standard error of machines that run, and of others' at the same libvirtd.
    @Test(.timeLimit(.minutes(1))) func libvirtsLogsOfOurMachinesAreHeldToTheLimitAndRemoved() async throws {
        let directory = NSTemporaryDirectory() + "domain-logs-\(UUID())"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let (own, others) = ("\(directory)/swiftlet-a.log", "\(directory)/other.log")
        let end = Data("\n2026-11-28 11:41:30.123+0000: shutting down, reason=destroyed\n".utf8)
        for path in [own, others] { try (Data(count: 3 << 20) + end).write(to: URL(filePath: path)) }
        let logs = DomainLogs(directory, prefix: DomainLogs.prefix, interval: .milliseconds(10), logger: Logger(label: "test"))
        try await eventually("it is cut") { try size(own) == ConsoleLogs.kept }
        #expect(DomainLog(directory: directory, name: "swiftlet-a")?.end == .destroyed)
        #expect(try size(others) > 3 << 20)
        for _ in 0..<2 { logs.remove("swiftlet-a") }
        logs.remove("../\(directory)/other")
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["other.log"])
    }

    @Test func aLinkIsNotFollowed() async throws {
        try await withFile { path in
            let other = path + ".other"
            try Data(count: 2 * ConsoleLogs.limit).write(to: URL(filePath: other))
            defer { try? FileManager.default.removeItem(atPath: other) }
            try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: other)
            #expect(throws: (any Error).self) { try ConsoleLogs.cut(path) }
            #expect(try size(other) == 2 * ConsoleLogs.limit)
        }
    }

    @Test(.timeLimit(.minutes(1))) func aWriterThatNeverStopsIsHeldToTheLimit() async throws {
        try await withFile { path in
            let logs = ConsoleLogs(interval: .milliseconds(20), logger: Logger(label: "test"))
            logs.watch(path, of: .example)
            // As QEMU does: one descriptor for good, every write at the end.
            let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
            defer { close(descriptor) }
            let chunk = [UInt8](repeating: 0x61, count: 64 << 10)
            var written = 0
            var cuts = 0
            var last = 0
            while cuts < 3 {
                #expect(write(descriptor, chunk, chunk.count) == chunk.count)
                written += chunk.count
                let now = try size(path)
                if now < last { cuts += 1 }
                last = now
                try await Task.sleep(for: .milliseconds(2))
            }
            #expect(last < written)
            logs.forget(.example)
            withExtendedLifetime(logs) {}
        }
    }
}

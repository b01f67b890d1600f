import Foundation
import Glibc
import StreamControl
import Support
import Synchronization
import Testing

/// Consoles as the program that is started copies them.
@Suite(.timeLimit(.minutes(2))) struct ConsoleProgramTests {
    private static let program = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        .appending(path: "swiftlet-streamd").path

    private let directory = FileManager.default.temporaryDirectory.appending(path: "console-\(UUID())").path

    private var log: String { directory + "/log" }

    private func start() throws -> ChildProcess {
        let process = ChildProcess()
        process.executableURL = URL(fileURLWithPath: Self.program)
        process.arguments = ["--control-socket", directory + "/s", "--positions", directory]
        process.standardError = FileHandle.nullDevice
        try process.run()
        return process
    }

    /// Has the console followed, as swiftletd does it for each process.
    private func follow() async throws -> StreamControlClient {
        try await eventually("it is served") { (try? await StreamControlClient.connect(to: directory + "/s")) != nil }
        let client = try await StreamControlClient.connect(to: directory + "/s")
        #expect(client.info.features.contains(StreamContract.console))
        let open = StreamOpenLogRequest.with { ($0.containerID, $0.directory, $0.path) = ("c", directory, "log") }
        _ = try await client.call(.openLog, open, timeout: .seconds(20))
        let follow = StreamFollowLogRequest.with {
            $0.containerID = "c"
            ($0.console.log, $0.console.socket) = (directory + "/console", directory + "/port")
        }
        _ = try await client.call(.followLog, follow, timeout: .seconds(20))
        return client
    }

    private func kill(_ process: ChildProcess) {
        Glibc.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    @Test func aConsolesLogIsExactThoughEachProcessIsKilled() async throws {
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let path = directory + "/console"
        let isDone = Atomic(false)
        // The guest, which writes on whoever reads.
        let writing = Task {
            let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
            defer { close(descriptor) }
            var text = ""
            while !isDone.load(ordering: .relaxed) {
                let line = "line \(text.utf8.count) of the guest\r\n"
                text += line
                _ = write(descriptor, line, line.utf8.count)
                if text.utf8.count % 5 == 0 { try await Task.sleep(for: .milliseconds(1)) }
            }
            return text
        }
        for _ in 0..<6 {
            let process = try start()
            let client = try await follow()
            try await Task.sleep(for: .milliseconds(150))
            kill(process)
            client.close()
        }
        isDone.store(true, ordering: .relaxed)
        let text = try await writing.value
        let process = try start()
        defer { kill(process) }
        let client = try await follow()
        let wait = StreamWaitForLogRequest.with { ($0.containerID, $0.hasEnded_p) = ("c", true) }
        _ = try await client.call(.waitForLog, wait, timeout: .seconds(30))
        client.close()
        let lines = try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n").map { line in
            line.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)[2]
        }
        let logged = lines.map { String($0.dropFirst(2)) + ($0.hasPrefix("F") ? "\n" : "") }.joined()
        #expect(text.utf8.count > 10_000)
        let isExact = logged == text.replacing("\r\n", with: "\n")
        #expect(isExact)
    }
}

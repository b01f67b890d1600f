import Concurrency
import Errors
import Foundation
import GRPC
import Linux
import Support
import Testing

/// The command as it was built, beside the tests.
func swiftlet(_ arguments: String..., endpoint: String) async throws -> Spawn.Result {
    try await swiftlet(arguments, endpoint: endpoint)
}

func program() throws -> String {
    let tests = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let beside = URL(fileURLWithPath: tests).deletingLastPathComponent().appendingPathComponent("swiftlet").path
    guard FileManager.default.isExecutableFile(atPath: beside) else {
        throw SwiftletError(.notFound, "\(beside) is missing; build it with the tests")
    }
    return beside
}

func swiftlet(_ arguments: [String], input: [UInt8] = [], endpoint: String) async throws -> Spawn.Result {
    var environment = ProcessInfo.processInfo.environment
    environment["SWIFTLET_ENDPOINT"] = endpoint
    environment["SWIFTLET_LOGS"] = logs(of: endpoint)
    return try await Spawn(try program(), arguments, environment: environment, input: input, deadline: .seconds(60)).run()
}

/// Beside the socket, in a directory that goes with the test.
private func logs(of endpoint: String) -> String {
    "/" + endpoint.drop { $0 != "/" }.drop { $0 == "/" }.prefix { $0 != "." } + "-logs"
}

@Suite struct CommandTests {
    @Test func runPrintsTheOutputPassesOnTheExitCodeAndLeavesNothing() async throws {
        try await FakeDaemon.serve(.init(stdout: ["one", "two"], stderr: ["oops"], exitCode: 42)) { daemon, endpoint async throws in
            let result = try await swiftlet("run", "--name", "web", "busybox", "--", "sh", "-c", "x", endpoint: endpoint)
            #expect(result.status == 42)
            #expect(result.outputText == "one\ntwo\n")
            #expect(result.errorText == "booting web …\nstarting web …\noops\n")
            #expect(await daemon.pods.isEmpty)
            #expect(await daemon.containerConfig.args == ["sh", "-c", "x"])
            #expect(await daemon.containerConfig.image.image == "sha256:b0")
            #expect(!FileManager.default.fileExists(atPath: await daemon.podConfig.logDirectory))
        }
    }

    @Test func runPullsAnImageThatIsAbsent() async throws {
        try await FakeDaemon.serve { daemon, endpoint async throws in
            let result = try await swiftlet("run", "--name", "new", "new:1", endpoint: endpoint)
            #expect(result.status == 0)
            #expect(result.errorText == "pulling new:1 …\nbooting new …\nstarting new …\n")
            #expect(await daemon.requests.prefix(3) == ["ImageStatus", "PullImage", "RunPodSandbox"])
        }
    }

    @Test func quietIsQuiet() async throws {
        try await FakeDaemon.serve { _, endpoint async throws in
            #expect(try await swiftlet("run", "-q", "new", endpoint: endpoint).errorText == "")
        }
    }

    @Test func aPullThatFailsIsOneLineAndExitStatusOne() async throws {
        try await FakeDaemon.serve { daemon, endpoint async throws in
            let result = try await swiftlet("run", "-q", "missing", endpoint: endpoint)
            #expect(result.status == 1)
            #expect(result.errorText == "swiftlet: pulling missing: manifest of missing:; unknown\n")
            #expect(await daemon.pods.isEmpty)
        }
    }

    @Test func whatAFailedBootLeavesIsFoundAndRemoved() async throws {
        try await FakeDaemon.serve(.init(bootFailure: GRPCStatus(.internal, "no VM"))) { daemon, endpoint async throws in
            let result = try await swiftlet("run", "-q", "--name", "web", "busybox", endpoint: endpoint)
            #expect(result.status == 1)
            #expect(result.errorText == "swiftlet: booting pod web: no VM\n")
            #expect(await daemon.pods.isEmpty)
            #expect(!FileManager.default.fileExists(atPath: await daemon.podConfig.logDirectory))
        }
    }

    @Test func aStartThatFailsLeavesNothingEvenDetached() async throws {
        try await FakeDaemon.serve(.init(startFailure: GRPCStatus(.invalidArgument, "no such file"))) { daemon, endpoint async throws in
            let result = try await swiftlet("run", "-q", "--detach", "busybox", endpoint: endpoint)
            #expect(result.status == 1)
            #expect(result.errorText == "swiftlet: starting the container: no such file\n")
            #expect(await daemon.pods.isEmpty)
        }
    }

    @Test func aDetachedPodIsListedLoggedStoppedAndRemovedByItsName() async throws {
        try await FakeDaemon.serve(.init(stdout: ["hello"], runsUntilStopped: true)) { daemon, endpoint async throws in
            #expect(try await swiftlet("run", "-q", "-d", "--name", "web", "busybox", endpoint: endpoint).outputText == "web\n")
            let listing = try await swiftlet("ps", endpoint: endpoint).outputText
            #expect(listing.contains("swiftlet/web  ready"))
            #expect(listing.contains("10.1.2.3"))
            let json = try await swiftlet("ps", "-o", "json", endpoint: endpoint).output
            let object = try #require(try JSONSerialization.jsonObject(with: Data(json)) as? [String: [[String: Any]]])
            #expect(object["pods"]?.first?["name"] as? String == "web")
            #expect(try await swiftlet("logs", "web", endpoint: endpoint).outputText == "hello\n")
            let refused = try await swiftlet("rm", "web", endpoint: endpoint)
            #expect(refused.status == 1)
            #expect(refused.errorText == "swiftlet: removing pod web: it runs; stop it first, or use rm -f\n")
            #expect(try await swiftlet("stop", "web", endpoint: endpoint).outputText == "web\n")
            #expect(try await swiftlet("logs", "-f", "web", endpoint: endpoint).outputText == "hello\n")
            #expect(try await swiftlet("rm", "web", endpoint: endpoint).status == 0)
            #expect(await daemon.pods.isEmpty)
            #expect(!FileManager.default.fileExists(atPath: await daemon.podConfig.logDirectory))
        }
    }

    @Test func aLogIsShownFromItsLastLinesOrATimeOnWithTimesOrOfTheAttemptBefore() async throws {
        try await FakeDaemon.serve(.init(stdout: ["one", "two", "three"], runsUntilStopped: true)) { daemon, endpoint async throws in
            _ = try await swiftlet("run", "-q", "-d", "--name", "web", "busybox", endpoint: endpoint)
            let none = try await swiftlet("logs", "-p", "web", endpoint: endpoint)
            #expect(none.status == 1 && none.errorText.contains("no earlier attempt"))
            #expect(try await swiftlet("logs", "--tail", "2", "web", endpoint: endpoint).outputText == "two\nthree\n")
            #expect(try await swiftlet("logs", "--tail=-1", "web", endpoint: endpoint).outputText == "one\ntwo\nthree\n")
            #expect(
                try await swiftlet("logs", "--tail", "1", "-t", "web", endpoint: endpoint).outputText
                    == "2026-01-01T00:00:00.000000000Z three\n")
            #expect(try await swiftlet("logs", "--since", "1ms", "web", endpoint: endpoint).outputText == "")
            let since = "2026-01-01T01:00:00+01:00"
            #expect(try await swiftlet("logs", "--since", since, "web", endpoint: endpoint).outputText == "one\ntwo\nthree\n")
            let id = try #require(await daemon.containers.keys.first)
            try await daemon.startAnew(id, log: "2026-01-01T00:00:00.000000000Z stdout F earlier\n")
            #expect(try await swiftlet("logs", "--previous", "web", endpoint: endpoint).outputText == "earlier\n")
            #expect(try await swiftlet("logs", "-p", "-f", "web", endpoint: endpoint).outputText == "earlier\n")
            #expect(try await swiftlet("logs", "web", endpoint: endpoint).outputText == "one\ntwo\nthree\n")
            _ = try await swiftlet("rm", "-f", "web", endpoint: endpoint)
        }
    }

    @Test(
        arguments: [
            ("--tail", "-2"), ("--tail", "many"), ("--tail", "1.5"), ("--since", "yesterday"), ("--since", "-5s"), ("--since", "1h30"),
            ("--since", "2026-02-29T00:00:00Z"), ("--since", "2026-01-01T00:00:00"),
        ])
    func aBadValueOfALogsOptionIsAUsageErrorThatNamesIt(_ option: String, _ value: String) async throws {
        let result = try await swiftlet("logs", "\(option)=\(value)", "web", endpoint: "unix:///nonexistent/d.sock")
        #expect(result.status == 2)
        #expect(result.errorText.contains("'\(value)'") && result.errorText.contains(option), "\(result.errorText)")
    }

    @Test func aPodsConsoleIsPrintedAndFollowedUntilThePodStops() async throws {
        try await FakeDaemon.serve(.init(runsUntilStopped: true)) { daemon, endpoint async throws in
            let none = try await swiftlet("console", "web", endpoint: endpoint)
            #expect(none.status == 1 && none.errorText.contains("no pod has this id or name"))
            _ = try await swiftlet("run", "-q", "-d", "--name", "web", "busybox", endpoint: endpoint)
            let consoleless = try await swiftlet("console", "web", endpoint: endpoint)
            #expect(consoleless.status == 1 && consoleless.errorText == "swiftlet: web: the pod has no console\n")
            let path = logs(of: endpoint) + "/console.log"
            await daemon.keepConsole(in: path)
            let absent = try await swiftlet("console", "web", endpoint: endpoint)
            #expect(absent.status == 1 && absent.errorText.contains(path))
            // Not to a terminal: byte by byte.
            try Data("boot\r\n\u{1B}[31mred\r\n".utf8).write(to: URL(fileURLWithPath: path))
            #expect(try await swiftlet("console", "web", endpoint: endpoint).outputText == "boot\r\n\u{1B}[31mred\r\n")
            async let followed = swiftlet("console", "-f", "web", endpoint: endpoint)
            try await Task.sleep(for: .milliseconds(300))
            let file = try #require(FileHandle(forWritingAtPath: path))
            try file.seekToEnd()
            try file.write(contentsOf: Data("halt".utf8))
            try file.close()
            _ = try await swiftlet("stop", "web", endpoint: endpoint)
            let result = try await followed
            #expect(result.status == 0 && result.outputText == "boot\r\n\u{1B}[31mred\r\nhalt", "\(result)")
            let stopped = try await swiftlet("console", "web", endpoint: endpoint)
            #expect(stopped.status == 1 && stopped.errorText.contains("has stopped"))
            _ = try await swiftlet("rm", "-f", "web", endpoint: endpoint)
        }
    }

    @Test func aKeptPodStaysWithItsLog() async throws {
        try await FakeDaemon.serve(.init(stdout: ["hello"], exitCode: 3)) { daemon, endpoint async throws in
            #expect(try await swiftlet("run", "-q", "--keep", "--name", "web", "busybox", endpoint: endpoint).status == 3)
            #expect(await daemon.pods.count == 1)
            #expect(try await swiftlet("logs", "web", endpoint: endpoint).outputText == "hello\n")
            #expect(try await swiftlet("rm", "-f", "web", endpoint: endpoint).status == 0)
        }
    }

    @Test(arguments: [SIGINT, SIGTERM])
    func anInterruptStopsAndRemovesThePod(_ signal: Int32) async throws {
        try await FakeDaemon.serve(.init(stdout: ["ready"], runsUntilStopped: true)) { daemon, endpoint async throws in
            let process = ChildProcess()
            process.executableURL = URL(fileURLWithPath: try program())
            process.environment = ["SWIFTLET_LOGS": logs(of: endpoint)]
            process.arguments = ["run", "-q", "--endpoint", endpoint, "busybox"]
            let output = Pipe()
            process.standardOutput = output
            process.standardError = FileHandle.nullDevice
            let ended = AsyncStream.makeStream(of: Int32.self)
            process.terminationHandler = { ended.continuation.yield($0.terminationStatus) }
            try process.run()
            let descriptor = output.fileHandleForReading.fileDescriptor
            let first = try await OwnThread.run {
                var bytes = [UInt8](repeating: 0, count: 6)
                return read(descriptor, &bytes, bytes.count) == 6 ? bytes : []
            }
            #expect(first == Array("ready\n".utf8))
            kill(process.processIdentifier, signal)
            var statuses = ended.stream.makeAsyncIterator()
            #expect(await statuses.next() == 128 + signal)
            #expect(await daemon.pods.isEmpty)
        }
    }

    @Test func imagesArePulledListedLoadedAndRemoved() async throws {
        try await FakeDaemon.serve { _, endpoint async throws in
            #expect(try await swiftlet("image", "pull", "-q", "new", endpoint: endpoint).outputText == "sha256:9u11\n")
            let table = try await swiftlet("image", "ls", endpoint: endpoint).outputText
            #expect(table.split(separator: "\n").count == 3)
            #expect(try await swiftlet("image", "load", "/proc/self", "--name", "x:1", endpoint: endpoint).outputText == "x:1\n")
            let absent = try await swiftlet("image", "load", "/nonexistent.tar", endpoint: endpoint)
            #expect(absent.errorText == "swiftlet: loading /nonexistent.tar: No such file or directory\n")
            let removed = try await swiftlet("image", "rm", "new", "nothing", "busybox", endpoint: endpoint)
            #expect(removed.status == 1)
            #expect(removed.outputText == "new\nbusybox\n")
            #expect(removed.errorText == "swiftlet: removing image nothing: no such image; see swiftlet image ls\n")
            #expect(try await swiftlet("image", "ls", "-o", "json", endpoint: endpoint).outputText == "[\n\n]\n")
        }
    }

    @Test func versionAndInfoSayWhatTheDaemonIs() async throws {
        try await FakeDaemon.serve { _, endpoint async throws in
            #expect(try await swiftlet("version", endpoint: endpoint).outputText.contains("swiftlet  9.9.9 (CRI v1, \(endpoint))"))
            let info = try await swiftlet("info", "-o", "json", endpoint: endpoint).output
            let object = try #require(try JSONSerialization.jsonObject(with: Data(info)) as? [String: Any])
            #expect((object["info"] as? [String: String])?["config"] == "{}")
        }
    }

    @Test func aDaemonThatIsNotThereIsNamedWithWhatToStart() async throws {
        let result = try await swiftlet("ps", endpoint: "unix:///nonexistent/d.sock")
        #expect(result.status == 1)
        #expect(
            result.errorText == """
                swiftlet: listing pods: no swiftletd at unix:///nonexistent/d.sock (No such file or directory); \
                start swiftletd, or name its socket with --endpoint or SWIFTLET_ENDPOINT\n
                """)
        let doctor = try await swiftlet("doctor", "-o", "json", endpoint: "unix:///nonexistent/d.sock")
        #expect(doctor.status == 1)
        let findings = try #require(try JSONSerialization.jsonObject(with: Data(doctor.output)) as? [[String: String]])
        #expect(findings.last?["check"] == "swiftletd")
        #expect(findings.last?["verdict"] == "fail")
    }

    @Test(arguments: [["nonsense"], ["run"], ["exec", "x"], ["run", "--memory", "many", "x"], ["ps", "--endpoint", "nowhere"]])
    func aWrongCommandLineEndsInTwo(_ arguments: [String]) async throws {
        let result = try await swiftlet(arguments, endpoint: "unix:///nonexistent/d.sock")
        #expect(result.status == 2)
        #expect(result.errorText.hasPrefix("swiftlet: "))
        #expect(result.errorText.split(separator: "\n").count == 1)
    }

    @Test func theEndpointMayStandBeforeTheCommand() async throws {
        try await FakeDaemon.serve { _, endpoint async throws in
            #expect(try await swiftlet("--endpoint", endpoint, "version", endpoint: "unix:///nonexistent").status == 0)
        }
    }
}

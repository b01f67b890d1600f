import Foundation
import StreamFakes
import Support
import Testing

@testable import StreamServer

/// Debian's kubectl 1.20, which speaks SPDY/3.1 by moby/spdystream.
@Suite(.timeLimit(.minutes(5))) struct KubectlExecTests {
    @Test func execKeepsStdoutStderrAndTheExitCodeApart() async throws {
        let node = try await StreamNode()
        let result = try await node.kubectl(["exec", "p", "--", "/bin/sh", "-c", "echo out; echo err >&2; exit 37"])
        #expect(result.status == 37, "\(result.stderr)")
        #expect(result.stdout == Data("out\n".utf8))
        #expect(result.stderr.hasPrefix("err\n"))
        let success = try await node.kubectl(["exec", "p", "--", "true"])
        #expect(success.status == 0 && success.stderr.isEmpty, "\(success.stderr)")
        await node.stop()
        #expect(node.log.lines.isEmpty, "\(node.log.lines)")
    }

    @Test func bytesPassBothWaysUnchangedAndStdinEnds() async throws {
        let node = try await StreamNode()
        let bytes = randomBytes(8 << 20, seed: 1)
        let result = try await node.kubectl(["exec", "-i", "p", "--", "cat"], input: bytes)
        #expect(result.status == 0, "\(result.stderr)")
        #expect(result.stdout == bytes)
        await node.stop()
    }

    @Test func aCommandThatReadsNoMoreDoesNotHoldTheClient() async throws {
        let node = try await StreamNode()
        let result = try await node.kubectl(["exec", "-i", "p", "--", "head", "-c", "3"], input: Data(repeating: 0x61, count: 16 << 20))
        #expect(result.status == 0, "\(result.stderr)")
        #expect(result.stdout == Data("aaa".utf8))
        await node.stop()
    }

    @Test func backgroundChildrenThatHoldTheOutputsDoNotHoldTheClient() async throws {
        let node = try await StreamNode()
        let result = try await node.kubectl(["exec", "p", "--", "/bin/sh", "-c", "sleep 300 & echo done"])
        #expect(result.status == 0 && result.stdout == Data("done\n".utf8), "\(result.stderr)")
        await node.stop()
    }

    @Test func whatCannotBeExecutedIsToldAndLoggedOnce() async throws {
        let node = try await StreamNode()
        let result = try await node.kubectl(["exec", "p", "--", "/does/not/exist"])
        #expect(result.status == 1)
        #expect(result.stderr.contains("/does/not/exist cannot be executed"), "\(result.stderr)")
        #expect(result.stderr.components(separatedBy: "exec in container").count == 2, "\(result.stderr)")
        #expect(node.log.lines.count == 1, "\(node.log.lines)")
        await node.stop()
    }

    /// `script` gives kubectl a terminal, as a person has.
    @Test func aTerminalHasItsSizeFromTheFirstInstructionAndOneOutput() async throws {
        let node = try await StreamNode { $0.firstSizePatience = .seconds(60) }
        let command =
            "stty cols 113 rows 37; exec \(StreamNode.kubectl) --server=\(node.api.address) exec -it p -- "
            + "/bin/sh -c 'stty size; echo err >&2; test -t 0 && echo terminal; exit 5'"
        let result = try await node.run(["/usr/bin/script", "-qec", command, "/dev/null"])
        #expect(result.status == 5, "\(result.stderr)")
        #expect(String(decoding: result.stdout, as: UTF8.self).replacing("^@", with: "").hasPrefix("37 113\r\nerr\r\nterminal\r\n"))
        #expect(node.backend.firstSizes == [TerminalSize(width: 113, height: 37)])
        await node.stop()
    }

    @Test func aClientThatIsKilledEndsItsProcess() async throws {
        let node = try await StreamNode()
        let client = try Client(
            [StreamNode.kubectl, "--server=\(node.api.address)", "exec", "-i", "p", "--", "/bin/sh", "-c", "echo up; sleep 1000"],
            home: node.directory)
        try await eventually("the command runs") { client.stdout == Data("up\n".utf8) }
        client.kill()
        let session = try #require(node.backend.sessions.first)
        try await eventually("the session ends") { session.hasEnded.withLock { $0 } }
        _ = await client.finish()
        await node.stop()
    }

    @Test func attachGetsWhatComesAndGivesStdin() async throws {
        let node = try await StreamNode()
        let result = try await node.kubectl(["attach", "-i", "p"], input: Data("hello\n".utf8))
        #expect(result.status == 0, "\(result.stderr)")
        #expect(String(decoding: result.stdout, as: UTF8.self).hasSuffix("ready\nhello\n"))
        await node.stop()
    }

    @Test func filesAreCopiedBothWays() async throws {
        let node = try await StreamNode()
        let bytes = randomBytes(3_000_001, seed: 2)
        let (source, inPod, back) = (
            node.directory.appending(path: "source"), node.directory.appending(path: "pod"), node.directory.appending(path: "back")
        )
        try FileManager.default.createDirectory(at: inPod, withIntermediateDirectories: true)
        try bytes.write(to: source)
        let into = try await node.kubectl(["cp", source.path, "default/p:\(inPod.path)/copy"])
        #expect(into.status == 0, "\(into.stderr)")
        #expect(try Data(contentsOf: inPod.appending(path: "copy")) == bytes)
        let out = try await node.kubectl(["cp", "default/p:\(inPod.path)/copy", back.path])
        #expect(out.status == 0, "\(out.stderr)")
        #expect(try Data(contentsOf: back) == bytes)
        await node.stop()
    }
}

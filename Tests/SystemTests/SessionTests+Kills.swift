import CRI
import Errors
import Foundation
import Linux
import Support
import Testing

/// Twenty sessions and four logs, through twenty ends of each process.
extension SessionTests {
    private static let rounds = 20
    private static let logging = (1...4).map { "logging-\($0)" }

    /// What a logging container writes until a file says that it is enough: the guest's processor is for all of them and what is forwarded.
    private static func script(_ index: Int) -> String {
        "i=0; while [ ! -e /enough ]; do i=$((i+1)); echo \(index) line $i; [ $((i % 50)) = 0 ] && sleep 0.5; done; echo \(index) end $i"
    }

    @Test func twentySessionsAndFourLogsLiveThroughTwentyKillsOfTheDaemonAndLogsThroughTwentyOfTheStreamDaemon() async throws {
        let node = try node()
        let pod = try sharedPod()
        var containers: [String: String] = [:]
        for (index, name) in Self.logging.enumerated() {
            containers[name] = try await node.runContainer(in: pod, name, ["/bin/sh", "-c", Self.script(index)])
        }
        containers["target"] = try await node.runContainer(in: pod, "target", ["/bin/sleep", "6000"])
        containers["source"] = try await node.runContainer(in: pod, "source", ["/bin/sh", "-c", Forwarded.script])
        let api = try node.kubernetes(containers: containers, sandboxes: ["pod": pod])
        defer { api.stop() }
        // By twos: half of the 20 are execs, the other half but one are attached.
        let execs = try (0..<10).map { index in
            let terminal = index % 2 == 0
            return try Kubectl(
                ["exec", terminal ? "-it" : "-i", "target", "--", "/bin/cat"], server: api, home: home(node), terminal: terminal)
        }
        let viewers = try (0..<9).map { try Kubectl(["attach", Self.logging[$0 % 4]], server: api, home: home(node)) }
        for session in execs { try await say("round 0", to: session) }
        let forwarded = try await Forwarded.start(api, home: home(node))
        for viewer in viewers { try await eventually("it sees: \(viewer.stderr)") { viewer.stdout.contains(10) } }

        for round in 1...Self.rounds {
            await node.kill()
            for session in execs { try await say("round \(round)", to: session) }
            try await node.launch()
        }
        let digest = try await forwarded.digest()
        #expect(try await digest == Forwarded.expected, "what was forwarded")
        for (index, session) in execs.enumerated() {
            if index % 2 == 0 { try session.write(Data([4])) } else { try session.closeInput() }
            #expect(try await session.exit() == 0, "\(session.stderr)")
            let echoed = String(decoding: session.stdout, as: UTF8.self).split(whereSeparator: \.isNewline).map(String.init)
            let said = (0...Self.rounds).map { "round \($0)" }
            // A terminal echoes what is typed, and cat says it again.
            #expect(index % 2 == 0 ? Self.first(of: echoed) == said : echoed == said, "\(index): \(echoed)")
        }

        for _ in 0..<Self.rounds {
            let process = try #require(node.streamDaemon)
            process.kill()
            try await eventually("it is started again; \(node.tail(node.daemonLog))") { node.streamDaemon.map { $0 != process } ?? false }
        }
        for name in Self.logging { _ = try await node.shell(try #require(containers[name]), ": > /enough") }
        for (index, name) in Self.logging.enumerated() {
            let id = try #require(containers[name])
            #expect(try await node.exit(of: id).exitCode == 0)
            let lines = try node.log(name)
            #expect(
                lines == (1..<max(lines.count, 1)).map { "stdout F \(index) line \($0)" } + ["stdout F \(index) end \(lines.count - 1)"])
            for viewer in viewers.indices where viewer % 4 == index {
                // It joined within the log, maybe within a line, and was cut off by the first end of streamd.
                let text = String(decoding: viewers[viewer].stdout, as: UTF8.self)
                let seen = text.split(separator: "\n").dropFirst().dropLast().map { "stdout F \($0)" }
                #expect(seen.count > 100 && Self.contains(lines, seen), "\(seen.count) lines of \(lines.count)")
                _ = try await viewers[viewer].exit()
            }
        }
        for id in containers.values { try await node.removeContainer(id) }
    }

    private func home(_ node: Node) -> String { node.environment.scratch + "/home" }

    /// Waits for the echo.
    private func say(_ text: String, to session: Kubectl) async throws {
        try session.write(Data("\(text)\n".utf8))
        try await eventually("it echoes \(text): \(session.stderr)") {
            String(decoding: session.stdout, as: UTF8.self).split(whereSeparator: \.isNewline).last == Substring(text)
        }
    }

    /// Of lines that come twice, one each.
    private static func first(of lines: [String]) -> [String] {
        lines.reduce(into: []) { kept, line in if kept.last != line { kept.append(line) } }
    }

    private static func contains(_ lines: [String], _ part: [String]) -> Bool {
        guard let first = part.first, let start = lines.firstIndex(of: first), start + part.count <= lines.count else { return false }
        return Array(lines[start..<(start + part.count)]) == part
    }
}

/// A gigabyte that a container sends, as fast as its guest can, through kubectl's port-forward.
private struct Forwarded {
    private static let line = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"
    private static let (block, blocks) = (16 << 20, 64)
    /// Of the container that sends it: one file, again and again, to the connection itself. An emulated guest makes no such bytes as fast,
    /// and nc would carry 1 KiB at a time.
    static let script = """
        busybox cat > /send << END
        #!/bin/sh
        busybox yes \(line) | busybox head -c \(block) > /block
        for i in \\$(busybox seq \(blocks)); do busybox cat /block; done
        END
        busybox chmod +x /send
        busybox nc -l -p 9000 -e /send
        exec sleep 6000
        """

    static var expected: String {
        get async throws {
            try await Spawn("/bin/sh", ["-c", "yes \(line) | head -c \(block * blocks) | sha256sum | cut -c-64"]).run().outputText
        }
    }

    /// Reads to the end, without an end of its own.
    private static let reader = """
        import hashlib, socket, sys
        connection, digest = socket.create_connection(("127.0.0.1", int(sys.argv[1]))), hashlib.sha256()
        while part := connection.recv(1 << 20): digest.update(part)
        print(digest.hexdigest())
        """

    let forward: Kubectl
    let reading: Task<String, any Error>

    static func start(_ api: KubernetesStandIn, home: String) async throws -> Forwarded {
        let forward = try Kubectl(["port-forward", "pod", ":9000"], server: api, home: home)
        var port: UInt16 = 0
        try await eventually("kubectl listens: \(forward.stderr)") {
            let text = String(decoding: forward.stdout, as: UTF8.self)
            port = text.firstMatch(of: /127\.0\.0\.1:(\d+) ->/).flatMap { UInt16($0.1) } ?? 0
            return port > 0
        }
        let reading = Task { [port] in
            try await Spawn("/usr/bin/python3", ["-c", reader, "\(port)"], deadline: .seconds(900)).run().outputText
        }
        return Forwarded(forward: forward, reading: reading)
    }

    func digest() async throws -> String {
        let digest = try await reading.value
        forward.process.terminate()
        _ = try await forward.exit()
        return digest
    }
}

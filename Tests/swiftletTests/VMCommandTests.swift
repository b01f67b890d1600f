import Errors
import Foundation
import Glibc
import Linux
import StreamClient
import StreamFakes
import StreamServer
import Support
import Testing

@testable import swiftlet

/// `swiftlet vm` as a process, with a daemon whose containers are machines.
@Suite(.timeLimit(.minutes(2))) struct VMCommandTests {
    private func withMachine(
        streams: StreamServer? = nil, _ body: @Sendable (FakeDaemon, String) async throws -> Void
    ) async throws {
        try await FakeDaemon.serve(.init(runsUntilStopped: true), streams: streams) { daemon, endpoint async throws in
            let run = try await swiftlet(
                "run", "-q", "-d", "--name", "debian", "--runtime-handler", "vm", "busybox", endpoint: endpoint)
            #expect(run.status == 0, "\(run.errorText)")
            try await body(daemon, endpoint)
        }
    }

    @Test func machinesAreListedWithTheirSizeAndStateAndOthersAreNot() async throws {
        try await withMachine { daemon, endpoint async throws in
            _ = try await swiftlet("run", "-q", "-d", "--name", "web", "busybox", endpoint: endpoint)
            let list = try await swiftlet("vm", "list", endpoint: endpoint)
            let lines = list.outputText.split(separator: "\n")
            #expect(lines.count == 2 && lines[0].hasPrefix("ID ") && !list.outputText.contains("web"), "\(list.outputText)")
            let cells = lines[1].split(separator: " ").map(String.init)
            #expect(Array(cells[1...6]) == ["swiftlet/debian", "running", "2", "1024Mi", "10.1.2.3", "busybox"], "\(cells)")
            _ = try await swiftlet("vm", "pause", "debian", endpoint: endpoint)
            let json = try await swiftlet("vm", "ls", "-o", "json", endpoint: endpoint)
            #expect(json.outputText.contains(#""state" : "paused""#) && json.outputText.contains(#""memory" : 1073741824"#))
            _ = try await swiftlet("stop", "debian", endpoint: endpoint)
            #expect(try await swiftlet("vm", "list", endpoint: endpoint).outputText.split(separator: "\n").count == 1)
            #expect(try await swiftlet("vm", "list", "-a", endpoint: endpoint).outputText.contains("exited"))
        }
    }

    @Test func aWrongNameStopsNoMachineAndOneThatDoesNotRunIsRefusedByName() async throws {
        try await withMachine { daemon, endpoint async throws in
            let wrong = try await swiftlet("vm", "pause", "debian", "nobody", endpoint: endpoint)
            #expect(wrong.status == 1 && wrong.errorText.contains("nobody: no pod or container"), "\(wrong.errorText)")
            #expect(await !daemon.isPaused)
            for command in ["pause", "resume", "reset", "reboot"] {
                let done = try await swiftlet("vm", command, "debian", endpoint: endpoint)
                #expect(done.status == 0 && done.outputText == "debian\n", "\(done.errorText)")
            }
            _ = try await swiftlet("stop", "debian", endpoint: endpoint)
            let late = try await swiftlet("vm", "reset", "debian", endpoint: endpoint)
            #expect(late.status == 1 && late.errorText.hasPrefix("swiftlet: resetting debian: "), "\(late.errorText)")
            #expect(try await swiftlet("vm", "reset", endpoint: endpoint).status == 2)
        }
    }

    @Test func aDamagedDiskIsAFailureAndALeakIsNone() async throws {
        try await withMachine { daemon, endpoint async throws in
            let sound = try await swiftlet("vm", "disk", "check", "debian", endpoint: endpoint)
            #expect(sound.status == 0 && sound.outputText.contains("3/9") && sound.errorText.isEmpty, "\(sound)")
            await daemon.spoilDisks()
            let damaged = try await swiftlet("vm", "disk", "check", "debian", endpoint: endpoint)
            #expect(damaged.status == 1 && damaged.outputText.contains("damaged"), "\(damaged.outputText)")
            #expect(damaged.errorText.contains("check it again after swiftlet vm pause"))
        }
    }

    @Test func theXMLAndTheScreenArePrinted() async throws {
        try await withMachine { daemon, endpoint async throws in
            #expect(try await swiftlet("vm", "dumpxml", "debian", endpoint: endpoint).outputText == "<domain/>\n")
            let picture = try await swiftlet("vm", "vnc", "--screenshot", "-", "debian", endpoint: endpoint)
            #expect(picture.output == [0x89, 0x50])
            let none = try await swiftlet("vm", "vnc", "debian", endpoint: endpoint)
            #expect(none.status == 1 && none.errorText.contains("has no screen"), "\(none.errorText)")
            await daemon.showScreens(at: "/run/vnc")
            #expect(try await swiftlet("vm", "vnc", "debian", endpoint: endpoint).outputText == "/run/vnc\n")
            let nobody = try await swiftlet("vm", "vnc", "--proxy", "0", "debian", endpoint: endpoint)
            #expect(nobody.status == 1 && nobody.errorText.contains("/run/vnc"), "\(nobody.errorText)")
            for refused in ["0.0.0.0:5900", "192.0.2.1:5900", "port", "", ":5900", "[::]:5900"] {
                let result = try await swiftlet("vm", "vnc", "--proxy", refused, "debian", endpoint: endpoint)
                #expect(result.status == 2, "\(refused): \(result.errorText)")
            }
        }
    }

    @Test func keysAreReadFromFilesAndPrivateOnesAreRefused() async throws {
        try await withMachine { daemon, endpoint async throws in
            let directory = "/" + endpoint.split(separator: "/").dropFirst().dropLast().joined(separator: "/")
            try "# of mine\nssh-ed25519 AAAA one\n\nssh-rsa BBBB two\n".write(
                toFile: directory + "/keys.pub", atomically: true, encoding: .utf8)
            let added = try await swiftlet("vm", "ssh", "--add-key", directory + "/keys.pub", "me@debian", endpoint: endpoint)
            #expect(added.status == 0 && added.outputText == "2 keys of me added\n", "\(added.errorText)")
            #expect(await daemon.keys == ["me: ssh-ed25519 AAAA one, ssh-rsa BBBB two"])
            try "-----BEGIN OPENSSH PRIVATE KEY-----\n".write(toFile: directory + "/key", atomically: true, encoding: .utf8)
            let secret = try await swiftlet("vm", "ssh", "--add-key", directory + "/key", "debian", endpoint: endpoint)
            #expect(secret.status == 1 && secret.errorText.contains(".pub"), "\(secret.errorText)")
            let absent = try await swiftlet("vm", "ssh", "--add-key", directory + "/none", "debian", endpoint: endpoint)
            #expect(absent.status == 1 && absent.errorText.contains("/none"), "\(absent.errorText)")
            #expect(try await swiftlet("vm", "ssh", "@debian", endpoint: endpoint).status == 2)
        }
    }

    /// A stand-in for ssh that speaks with the port by ProxyCommand, as ssh does.
    private static let ssh = """
        #!/bin/sh
        echo "$@" >&2
        for word; do case $word in ProxyCommand=*) exec sh -c "exec ${word#ProxyCommand=}";; esac; done

        """

    @Test func sshSpeaksWithThePodsPortThroughPortForward() async throws {
        let echo = try EchoServer()
        defer { echo.stop() }
        let streams = try await StreamServer.start(ServerConfiguration(), LocalBackend(), logger: RecordedLog().logger)
        try await withMachine(streams: streams) { _, endpoint async throws in
            let directory = "/" + endpoint.split(separator: "/").dropFirst().dropLast().joined(separator: "/")
            try Self.ssh.write(toFile: directory + "/ssh", atomically: true, encoding: .utf8)
            chmod(directory + "/ssh", 0o755)
            var environment = ProcessInfo.processInfo.environment
            environment["SWIFTLET_ENDPOINT"] = endpoint
            environment["PATH"] = directory + ":/usr/bin:/bin"
            let bytes = Array(randomBytes(700_001, seed: 4))
            let arguments = ["vm", "ssh", "-i", "/k", "-o", "LogLevel=QUIET", "-p", "\(echo.port)", "me@debian", "--", "uptime", "-p"]
            let result = try await Spawn(
                try program(), arguments, environment: environment, input: bytes, deadline: .seconds(60), outputLimit: 1 << 20
            ).run()
            let isSame = result.output == bytes
            #expect(result.status == 0 && isSame, "\(result.output.count) \(result.errorText)")
            #expect(result.errorText.hasPrefix("-i /k -o LogLevel=QUIET -o ProxyCommand="), "\(result.errorText)")
            #expect(result.errorText.hasSuffix("-l me -- debian uptime -p\n"), "\(result.errorText)")
        }
        await streams.stop()
    }

    /// Both directions have ended long before the reader takes what is left.
    @Test func aSlowReaderOfStandardOutputGetsAllThatThePortHasSent() async throws {
        let echo = try EchoServer()
        defer { echo.stop() }
        let streams = try await StreamServer.start(ServerConfiguration(), LocalBackend(), logger: RecordedLog().logger)
        try await withMachine(streams: streams) { _, endpoint async throws in
            let command = "'\(try program())' --endpoint '\(endpoint)' port-forward --stdio debian \(echo.port) | (sleep 1; cat)"
            let bytes = Array(randomBytes(300_001, seed: 8))
            let result = try await Spawn("/bin/sh", ["-c", command], input: bytes, deadline: .seconds(60)).run()
            let isSame = result.output == bytes
            #expect(result.status == 0 && isSame, "\(result.output.count) \(result.errorText)")
        }
        await streams.stop()
    }

    @Test func aConnectionOfStandardStreamsEndsWithThePortsRefusal() async throws {
        let echo = try EchoServer()
        echo.stop()
        let streams = try await StreamServer.start(ServerConfiguration(), LocalBackend(), logger: RecordedLog().logger)
        try await withMachine(streams: streams) { _, endpoint async throws in
            let refused = try await swiftlet(["port-forward", "--stdio", "debian", "\(echo.port)"], input: [1], endpoint: endpoint)
            #expect(refused.status == 1 && refused.errorText.contains("port \(echo.port) of pod debian"), "\(refused.errorText)")
            let two = try await swiftlet("port-forward", "--stdio", "debian", "80", "81", endpoint: endpoint)
            #expect(two.status == 2, "\(two.errorText)")
        }
        await streams.stop()
    }
}

/// Command lines and places.
@Suite struct VMPlaceTests {
    @Test func sshsCommandLineQuotesWhatAShellWouldRead() {
        let call = SSHCall(proxy: ["/a b/swiftlet", "100%", "it's"], host: "-x", container: "0123456789abcdef")
        #expect(call.arguments.contains(#"ProxyCommand='/a b/swiftlet' '100%%' 'it'\''s'"#))
        // A pod's name is no option of ssh's.
        #expect(call.arguments.suffix(2) == ["--", "swiftlet-0123456789abc"])
        #expect(call.arguments.contains("HostKeyAlias=swiftlet-0123456789abc"))
    }

    /// The system's ssh says how it reads the command line.
    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/ssh")))
    func sshReadsTheCommandLineAsItIsMeant() async throws {
        let call = SSHCall(
            proxy: ["/a b/swiftlet", "--stdio"], options: ["StrictHostKeyChecking=yes"], user: "me", host: "debian",
            container: "0123456789abcdef", command: ["-p", "7"])
        let read = try await Spawn("/usr/bin/ssh", ["-G"] + call.arguments).check()
        let lines = Set(read.outputText.split(separator: "\n").map(String.init))
        let expected = [
            "user me", "hostname debian", "port 22", "hostkeyalias swiftlet-0123456789abc", "proxycommand '/a b/swiftlet' '--stdio'",
            // The user's, which stands before ours.
            "stricthostkeychecking true",
        ]
        #expect(lines.isSuperset(of: expected), "\(read.outputText)")
    }

    @Test func aUserStandsBeforeTheLastAtSign() {
        #expect(SSHPlace("vm", login: "a") == SSHPlace("a@vm", login: "b"))
        #expect(SSHPlace("a@b@vm", login: nil).user == "a@b")
    }

    @Test func onlyLoopbackAddressesServeAScreen() {
        #expect(LoopbackPort(argument: "5901").map { "\($0.address) \($0.port)" } == "127.0.0.1 5901")
        #expect(LoopbackPort(argument: "127.1.2.3:0")?.address == "127.1.2.3")
        #expect(LoopbackPort(argument: "[::1]:5901")?.address == "::1")
        #expect(LoopbackPort(argument: "localhost:5901")?.address == "127.0.0.1")
        for text in ["1.2.3.4:1", "::1", "70000", "-1", "[::2]:1"] { #expect(LoopbackPort(argument: text) == nil, "\(text)") }
    }
}

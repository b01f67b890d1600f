import AgentProtocol
import Errors
import Foundation
import Testing

/// The first process and further ones: what they are, what they see, and how they fail to start.
@Suite struct ContainerProcessTests {
    private let image = TestImage.plain

    @Test func firstProcessIsPID1AndItsOutputAndExitCodeComeBack() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            let outcome = try await probe.run(image.shell("echo $$; echo bad >&2; exit 7"))
            #expect(outcome == .init(code: 7, stdout: "1\n", stderr: "bad\n"))
        }
    }

    @Test func processKilledBySignalReports128PlusSignal() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            try await probe.launch("c", image.spec("sleep", "1000"))
            try await probe.send("signal", "c", "9")
            #expect(try await probe.wait("c").code == 137)
        }
    }

    @Test func missingCommandIsNotFoundByName() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            for command in ["no-such-command", "/bin/no-such-command", "/etc/passwd/no"] {
                let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", image.spec(command)) }
                #expect(error?.code == .notFound)
                #expect(error?.message.contains("\"\(command)\" not found") == true)
                try await probe.send("release", "c")
            }
        }
    }

    @Test(arguments: ["/bin/garbage", "/bin/data", "data", "/bin/orphan", "/etc", "/bin/sh/"])
    func fileThatCannotBeExecutedIsInvalid(command: String) async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", image.spec(command)) }
            #expect(
                error?.code == (command.hasSuffix("sh/") ? .notFound : .invalidArgument), "\(error.map(String.init(describing:)) ?? "")")
            try await probe.send("release", "c")
            #expect(try await probe.held().hasPrefix("mounts=1 containers=[] trash=[] cgroups=[]"))
        }
    }

    @Test func commandIsSearchedInThePATHOfTheSpec() async throws {
        let image = try TestImage.extended(
            by: "mkdir -p opt/tools; printf '#!/bin/sh\\necho tool $PATH\\n' > opt/tools/tool; chmod 755 opt/tools/tool")
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("tool")
            spec.process.env = ["PATH=/nowhere::/opt/tools"].map { Data($0.utf8) }
            #expect(try await probe.run(spec).stdout == "tool /nowhere::/opt/tools\n")
            spec.process.env = []
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("d", spec) }
            #expect(error?.code == .notFound)
        }
    }

    @Test func workingDirectoryIsMadeWhenItIsMissing() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell("pwd; stat -c %u:%a .")
            spec.process.cwd = "/srv/made/here"
            spec.process.user.name = "app"
            spec.root.readonly = true
            #expect(try await probe.run(spec).stdout == "/srv/made/here\n0:755\n")
        }
    }

    @Test func workingDirectoryThatCannotBeMadeIsInvalidAndNamed() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell("pwd")
            spec.process.cwd = "/etc/passwd/sub"
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", spec) }
            #expect(error?.code == .invalidArgument)
            #expect(error?.message.contains("working directory /etc/passwd/sub") == true)
        }
    }

    @Test func onlyStandardDescriptorsAreOpen() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            let list = "ls /proc/$$/fd; true"
            try await probe.launch("c", image.shell("\(list); touch /listed; sleep 1000"))
            #expect(try await probe.exec("c", ["sh", "-c", list]).stdout == "0\n1\n2\n")
            try await probe.until("c", "test", "-e", "/listed")
            try await probe.send("signal", "c", "9")
            #expect(try await probe.wait("c").stdout == "0\n1\n2\n")
        }
    }

    @Test func environmentIsTheSpecsPlusHomeAndPath() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("env")
            spec.process.env = ["A=b c"].map { Data($0.utf8) }
            spec.process.user.name = "app"
            #expect(
                try await probe.run(spec).stdout
                    == "A=b c\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOME=/home/app\n")
            spec.process.env = ["HOME=/x", "PATH=/bin"].map { Data($0.utf8) }
            #expect(try await probe.run(spec).stdout == "HOME=/x\nPATH=/bin\n")
        }
    }

    @Test func signalsArriveWithTheirDefaultActionsAndNothingBlocked() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            let outcome = try await probe.run(image.spec("grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"))
            #expect(outcome.stdout == "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n")
        }
    }

    @Test func processLeadsItsOwnSessionWithTheUsualUmask() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            // Fields 5 and 6 of /proc/PID/stat: process group and session.
            #expect(try await probe.run(image.shell("cut -d' ' -f5,6 /proc/1/stat; umask")).stdout == "1 1\n0022\n")
        }
    }

    @Test func terminalIsTheControllingOneAndDevConsole() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell("tty; echo $TERM; echo typed > /dev/tty; stat -c %u /dev/console")
            spec.process.terminal = true
            spec.process.user.name = "app"
            #expect(try await probe.run(spec).stdout == "/dev/console\r\nxterm\r\ntyped\r\n1000\r\n")
        }
    }

    @Test func terminalOfAFurtherProcessHasANameInTheContainer() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            try await probe.launch("c", image.spec("sleep", "1000"))
            var process = image.shell("").process
            process.terminal = true
            process.user.name = "app"
            let script = "tty; stat -c %u $(tty); echo typed > /dev/tty; ls /dev/pts"
            let outcome = try await probe.exec("c", ["/bin/sh", "-c", script], as: process)
            #expect(outcome.stdout == "/dev/pts/0\r\n1000\r\ntyped\r\n0     ptmx\r\n")
        }
    }

    @Test func unprivilegedProcessMayReopenItsOutput() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell("echo again > /dev/stdout; echo err > /dev/stderr")
            spec.process.user.uid = 1000
            #expect(try await probe.run(spec) == .init(code: 0, stdout: "again\n", stderr: "err\n"))
        }
    }

    @Test func resourceLimitsHold() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("grep", "-E", "open files|core file", "/proc/self/limits")
            spec.process.rlimits = [.init("RLIMIT_NOFILE", 100, 200), .init("RLIMIT_CORE", 0, 0)]
            let lines = try await probe.run(spec).stdout.split(separator: "\n").map {
                $0.split(separator: " ").dropLast().suffix(2).joined(separator: " ")
            }
            #expect(lines == ["0 0", "100 200"])
        }
    }

    @Test func oomScoreAdjustmentHolds() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("cat", "/proc/self/oom_score_adj")
            spec.process.oomScoreAdj = 777
            #expect(try await probe.run(spec).stdout == "777\n")
        }
    }
}

extension AgentRlimit {
    init(_ type: String, _ soft: UInt64, _ hard: UInt64) {
        self.init()
        self.type = type
        self.soft = soft
        self.hard = hard
    }
}

import AgentProtocol
import Errors
import Foundation
import Testing

/// PID namespaces, signals to all, release, and the order of calls.
@Suite struct ContainerLifecycleTests {
    private let image = TestImage.plain
    private let nothing = "containers=[] trash=[] cgroups=[]"

    @Test func releaseLeavesNothingAndMayBeRepeated() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            // Once before, for what the pod keeps: its cgroup's parent, /dev/shm, a descriptor of the agent's PID namespace.
            try await probe.launch("first", image.spec("sleep", "1000"))
            _ = try await probe.exec("first", ["true"])
            try await probe.send("release", "first")
            _ = try await probe.wait("first")
            let before = try await probe.held()
            try await probe.launch("c", image.shell("mkdir -p /a/b/c; touch /a/b/c/d; sleep 1000 & sleep 1000"))
            _ = try await probe.exec("c", ["true"])
            try await probe.send("release", "c")
            try await probe.send("release", "c")
            #expect(try await probe.wait("c").code == 137)
            let after = try await probe.held()
            #expect(after == before)
            try await probe.send("share-release")
            #expect(try await probe.held().hasPrefix("mounts=0 \(nothing)"))
        }
    }

    @Test func aCgroupThatIsMadeBeforeTheDisksAreThereIsTheContainersOrGone() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            try await probe.create("c", image.spec("cat", "/proc/self/cgroup"))
            for _ in 1...2 { try await probe.send("early", "c") }
            #expect(try await probe.held().contains("cgroups=[c]"))
            try await probe.send("prepare", "c", "pipes")
            try await probe.send("start", "c", "c")
            #expect(try await probe.wait("c").code == 0)
            try await probe.send("early", "c")
            try await probe.send("release", "c")
            #expect(try await probe.held().contains(nothing))

            try await probe.create("d", image.spec("true"))
            try await probe.send("early", "d")
            try await probe.send("release", "d")
            try await probe.send("early", "d")
            #expect(try await probe.held().contains(nothing))
        }
    }

    @Test func releaseRemovesTreesOfAnyDepthAndSize() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            // 3000 levels exceed PATH_MAX by far; 5000 entries exceed one reading.
            let script =
                """
                i=0; while [ $i -lt 3000 ]; do mkdir d && cd d; i=$((i+1)); done
                mkdir /many; cd /many; touch $(seq 5000); chmod 000 /many
                """
            try await probe.launch("c", image.shell(script))
            #expect(try await probe.wait("c").code == 0)
            try await probe.send("release", "c")
            #expect(try await probe.held().contains(nothing))
        }
    }

    @Test func forkBombDiesWithItsContainer() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            // Bounded in number, not in will: each process replaces itself for ever, in sessions of their own.
            let bomb =
                "f() { while true; do setsid sh -c 'sleep 0.01' & [ $(ls -d /proc/[0-9]* | wc -l) -gt 60 ] && wait; done; }; f & f & f"
            try await probe.launch("c", image.shell(bomb))
            try await probe.send("signal", "c", "9")
            #expect(try await probe.wait("c").code == 137)
            try await probe.send("release", "c")
            #expect(try await probe.held().contains(nothing))
        }
    }

    @Test func signalReachesEveryProcessOfTheContainer() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell(
                """
                trap 'echo first; wait; exit 3' USR1; touch /up
                sh -c "trap 'echo second; exit 4' USR1; touch /ready; while true; do sleep 0.01; done" & while true; do sleep 0.01; done
                """
            )
            spec.pidMode = .pidContainer
            try await probe.launch("c", spec)
            try await probe.until("c", "ls", "/ready", "/up")
            try await probe.send("signal", "c", "10")
            let outcome = try await probe.wait("c")
            #expect(outcome.code == 3)
            #expect(Set(outcome.stdout.split(separator: "\n")) == ["first", "second"])
        }
    }

    @Test func podSharesItsPIDNamespace() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("sleep", "1001")
            spec.pidMode = .pidPod
            try await probe.launch("a", spec)
            spec.process.args = ["sleep", "1002"]
            try await probe.launch("b", spec)
            let list = try await probe.exec("b", ["ps"]).stdout
            #expect(list.contains("sleep 1001") && list.contains("sleep 1002"))
            // PID 1 is the pause process: no files, no capabilities, no tree of its own, and it reaps.
            let look = """
                grep -cE '^Cap(Prm|Eff|Bnd):.0000000000000000' /proc/1/status; ls /proc/1/root/ /proc/1/fd 2>/dev/null | grep -vc :
                kill -9 1; orphan=$(sh -c 'sleep 0 >/dev/null & echo $!'); while [ -d /proc/$orphan ]; do sleep 0.01; done; echo reaped
                """
            #expect(try await probe.exec("b", ["sh", "-c", look]).stdout == "3\n0\nreaped\n")
            try await probe.send("release", "a")
            #expect(try await probe.exec("b", ["ps"]).stdout.contains("sleep 1001") == false)
        }
    }

    @Test func targetModeSeesTheTargetsProcesses() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            try await probe.launch("a", image.spec("sleep", "1001"))
            var spec = image.spec("ps")
            spec.pidMode = .pidTarget
            spec.pidTarget = "a"
            #expect(try await probe.run(spec, id: "b").stdout.contains("sleep 1001"))
            try await probe.send("release", "a")
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("d", spec) }
            #expect(error?.code == .failedPrecondition)
        }
    }

    @Test func containersOfTheirOwnSeeOnlyThemselves() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            try await probe.launch("a", image.spec("sleep", "1001"))
            #expect(try await probe.run(image.shell("ls -d /proc/[0-9]*"), id: "b").stdout == "/proc/1\n")
        }
    }

    @Test func execJoinsTheContainersCgroupAndTree() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            try await probe.launch("c", image.shell("echo here > /mark; sleep 1000"))
            let outcome = try await probe.exec("c", ["sh", "-c", "grep ^0:: /proc/self/cgroup; grep -c . /sys/fs/cgroup/cgroup.procs"])
            #expect(outcome.stdout.hasPrefix("0::/\n"))
            try await probe.until("c", "grep", "-q", "here", "/mark")
        }
    }

    @Test func execAfterTheFirstProcessEndedIsRefused() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            try await probe.launch("c", image.spec("true"))
            _ = try await probe.wait("c")
            let error = await #expect(throws: SwiftletError.self) { try await probe.exec("c", ["true"]) }
            #expect(error?.code == .failedPrecondition)
        }
    }

    @Test func execFailuresAreThoseOfStart() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            try await probe.launch("c", image.spec("sleep", "1000"))
            let missing = await #expect(throws: SwiftletError.self) { try await probe.exec("c", ["no-such"]) }
            #expect(missing?.code == .notFound)
            // Of which container is said by whoever asked.
            #expect(missing?.message.contains("exec in container") == false, "\(missing?.message ?? "")")
            let garbage = await #expect(throws: SwiftletError.self) { try await probe.exec("c", ["garbage"]) }
            #expect(garbage?.code == .invalidArgument)
            #expect(try await probe.exec("c", ["echo", "fine"]).stdout == "fine\n")
        }
    }

    @Test func theFirstProcessIsBornBeforeItsStartAndGoesWithItsContainer() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            for (id, mode) in [("alone", AgentPidMode.pidContainer), ("shared", .pidPod)] {
                var spec = image.shell("echo started")
                spec.pidMode = mode
                try await probe.send("create", id, hex(try spec.serializedBytes()))
                try await probe.send("prepare", id, "pipes")
                let processes = probe.processes(of: id)
                #expect(processes.count == 1)
                // It is the image's shell already, stopped by its tracer: field 3 of proc_pid_stat(5).
                let status = try String(contentsOfFile: "/proc/\(try #require(processes.first))/stat", encoding: .utf8)
                #expect(status.contains("(sh) t "))
                if mode == .pidContainer { try await probe.send("release", id) }
            }
            try await probe.send("start", "shared", "shared")
            #expect(try await probe.wait("shared").stdout == "started\n")
            try await probe.send("release", "shared")
            try await probe.send("share-release")
            #expect(try await probe.held().contains(nothing))
        }
    }

    @Test func signalsDoNotHarmAProcessBeforeItsStart() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var noisy = image.shell("while true; do kill -CONT -1; done")
            noisy.pidMode = .pidPod
            try await probe.launch("noisy", noisy)
            var spec = image.shell("echo started")
            spec.pidMode = .pidPod
            for _ in 0..<5 { #expect(try await probe.run(spec).stdout == "started\n") }
            try await probe.send("release", "noisy")

            // Signals for a PID 1 without handlers are nothing, whenever they come.
            spec.pidMode = .pidContainer
            try await probe.send("create", "c", hex(try spec.serializedBytes()))
            try await probe.send("prepare", "c", "pipes")
            let held = try #require(probe.processes(of: "c").first)
            for signal in [SIGTERM, SIGCONT, SIGWINCH] { kill(pid_t(held), signal) }
            try await probe.send("start", "c", "c")
            #expect(try await probe.wait("c").stdout == "started\n")
            try await probe.send("release", "c")
            try await probe.send("share-release")
            #expect(try await probe.held().contains(nothing))
        }
    }

    @Test func aProcessThatIsKilledBeforeItsStartCannotBeStarted() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            try await probe.send("create", "c", hex(try image.spec("true").serializedBytes()))
            try await probe.send("prepare", "c", "pipes")
            kill(pid_t(try #require(probe.processes(of: "c").first)), SIGKILL)
            while !probe.processes(of: "c").isEmpty {}
            let error = await #expect(throws: SwiftletError.self) { try await probe.send("start", "c", "c") }
            #expect(error?.code == .aborted)
            try await probe.send("release", "c")
            try await probe.send("share-release")
            #expect(try await probe.held().contains(nothing))
        }
    }

    @Test func callsInTheWrongOrderAreRefused() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            try await probe.send("create", "c", hex(try image.spec("true").serializedBytes()))
            for command in [["start", "c", "c"], ["signal", "c", "15"]] {
                let error = await #expect(throws: SwiftletError.self) { try await probe.send(command[0], command[1], command[2]) }
                #expect(error?.code == .failedPrecondition)
            }
            try await probe.send("prepare", "c", "pipes")
            let twice = await #expect(throws: SwiftletError.self) { try await probe.send("prepare", "c", "pipes") }
            #expect(twice?.code == .failedPrecondition)
            try await probe.send("release", "c")
            let late = await #expect(throws: SwiftletError.self) { try await probe.send("start", "c", "c") }
            #expect(late?.code == .failedPrecondition)
            try await probe.send("signal", "c", "15")
        }
    }

    @Test func secondContainerOfOneNameIsRefusedAndTheFirstUnharmed() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            try await probe.launch("c", image.spec("sleep", "1000"))
            try await probe.send("create", "c", hex(try image.spec("true").serializedBytes()))
            let error = await #expect(throws: SwiftletError.self) { try await probe.send("prepare", "c", "pipes") }
            #expect(error?.code == .alreadyExists)
            #expect(try await probe.held().contains("containers=[c] trash=[] cgroups=[c]"))
        }
    }

    @Test func absentLayerDiskUndoesEverything() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("true")
            spec.root.layers.append(
                .with {
                    $0.serial = "gone"; $0.filesystem = "erofs"
                })
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", spec) }
            #expect(error?.code == .notFound)
            spec.root.layers[1].serial = "base"
            await #expect(throws: SwiftletError.self) { try await probe.launch("d", spec) }
            #expect(try await probe.held().hasPrefix("mounts=0 \(nothing)"))
        }
    }

    @Test func limitWithoutItsControllerIsRefusedByName() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("true")
            spec.resources.unified = ["imaginary.max": "1"]
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", spec) }
            #expect(error?.code == .failedPrecondition)
            #expect(error?.message.contains("imaginary.max") == true)
            #expect(try await probe.held().contains(nothing))
        }
    }
}

import CRI
import Errors
import Foundation
import GRPC
import Glibc
import Linux
import Support
import Testing

private let runtimes = FileManager.default.temporaryDirectory.path + "/swiftlet-runtimes-\(getpid())"

private let hostConfiguration = """
    [host]
    node_pods = "host"
    [[host.handlers]]
    name = "host"
    runtime = "runc"
    namespaces = ["test"]
    [[host.handlers]]
    name = "absent"
    runtime = "/nonexistent/runc"
    namespaces = ["*"]
    [[host.handlers]]
    name = "stuck"
    runtime = "\(runtimes)/stuck"
    kind = "runc"
    namespaces = ["test"]
    [[host.handlers]]
    name = "killed"
    runtime = "\(runtimes)/killed"
    kind = "runc"
    namespaces = ["test"]
    """

/// Pods on the node itself, by runc. The node's network is the run's own namespace.
@Suite(
    .enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized,
    .node("host", Node.Options(host: hostConfiguration)))
struct HostPodTests {
    /// As a kubelet makes it, with a PID namespace of its own.
    private func create(
        in pod: String, _ name: String, _ command: [String], _ change: @Sendable (inout CRIContainerConfig) -> Void = { _ in }
    ) async throws -> String {
        try await node().createContainer(in: pod, name, command) {
            $0.linux.securityContext.namespaceOptions.pid = .container
            change(&$0)
        }
    }

    private func run(
        in pod: String, _ name: String, _ command: [String], _ change: @Sendable (inout CRIContainerConfig) -> Void = { _ in }
    ) async throws -> String {
        let id = try await create(in: pod, name, command, change)
        try await node().start(id)
        return id
    }

    private func remove(_ pod: String, _ before: Footprint) async throws {
        let node = try node()
        try await node.stopPod(pod)
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
    }

    @Test func aPodOnTheNodeRunsLogsAnswersAndLeavesNothing() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let pod = try await node.runHostPod("plain")
        let status = try await node.podStatus(pod).status
        #expect(status.state == .sandboxReady && status.network.ip.hasPrefix("10.88.") && status.runtimeHandler == "host")
        let short = try await run(in: pod, "short", ["/bin/sh", "-c", "echo out; echo err >&2; cat /proc/sys/kernel/hostname; exit 7"])
        let ended = try await node.exit(of: short)
        #expect(ended.exitCode == 7 && ended.reason == "Error")
        #expect(try Set(node.log("short")) == ["stdout F out", "stderr F err", "stdout F plain"])

        let long = try await run(in: pod, "long", ["/bin/sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"])
        let answer = try await node.exec(
            long, ["/bin/sh", "-c", "echo in; cat /etc/hostname; grep -c . /etc/resolv.conf; echo no >&2; exit 4"])
        #expect(String(decoding: answer.stdout, as: UTF8.self) == "in\nplain\n3\n")
        #expect(String(decoding: answer.stderr, as: UTF8.self) == "no\n" && answer.exitCode == 4)
        let late = await refusal { _ = try await node.exec(long, ["/bin/sleep", "60"], timeout: 1) }
        #expect(late?.code == .deadlineExceeded)
        #expect(try await node.shell(long, "busybox ps | grep -c '[s]leep 60'") == "0\n")
        let session = try await Spawn(
            node.environment.build + "/swiftlet",
            ["--endpoint", node.endpoint, "exec", long, "/bin/sh", "-c", "echo out; echo err >&2; exit 3"],
            deadline: .seconds(60)
        ).run()
        #expect(session.status == 3 && session.outputText == "out\n" && session.errorText.contains("err\n"), "\(session)")
        let flood = try await Spawn(
            node.environment.build + "/swiftlet",
            ["--endpoint", node.endpoint, "exec", long, "/bin/sh", "-c", "head -c 20000000 /dev/zero"], deadline: .seconds(60),
            outputLimit: 32 << 20
        ).run()
        #expect(flood.output.count == 20_000_000 && flood.succeeded, "\(flood.output.count)")
        let leaver = Spawn(
            node.environment.build + "/swiftlet", ["--endpoint", node.endpoint, "exec", long, "/bin/sleep", "700"], deadline: .seconds(2))
        await #expect(throws: SwiftletError.self) { _ = try await leaver.run() }
        try await eventually("what a client has left ends") {
            try await node.shell(long, "busybox ps | grep -c '[s]leep 700'") == "0\n"
        }
        let unknown = await refusal { _ = try await node.exec(long, ["/nonexistent"]) }
        #expect(unknown != nil)

        try await node.stop(long, timeout: 20)
        #expect(try await node.status(of: long).exitCode == 3)
        let deaf = try await run(in: pod, "deaf", ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"])
        try await node.stop(deaf, timeout: 1)
        #expect(try await node.status(of: deaf).exitCode == 137)
        let impossible = try await create(in: pod, "impossible", ["/nonexistent"])
        let refused = await refusal { try await node.start(impossible) }
        #expect(refused?.message.contains("/nonexistent") == true)
        #expect(try await node.status(of: impossible).reason == "ContainerCannotRun")
        try await remove(pod, before)
    }

    @Test func containersOutliveTheDaemonAndTheirEndsAreFound() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let pod = try await node.runHostPod("survivor")
        let counter = try await run(
            in: pod, "host-counter", ["/bin/sh", "-c", "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i; sleep 0.1; done; exit 5"])
        let ended = try await run(in: pod, "host-ended", ["/bin/sh", "-c", "sleep 1; echo bye; exit 9"])
        let waiting = try await create(in: pod, "host-waiting", ["/bin/echo", "late"])
        let running = try await run(in: pod, "host-running", ["/bin/sleep", "600"])
        try await node.waitForLog("host-counter", lines: 3)
        await node.kill()
        try await Task.sleep(for: .seconds(2))
        try await node.launch()
        #expect(try await node.podStatus(pod).status.state == .sandboxReady)
        #expect(try await node.exit(of: ended).exitCode == 9)
        #expect(try await node.shell(running, "echo here") == "here\n")
        try await node.start(waiting)
        #expect(try await node.exit(of: waiting).exitCode == 0)
        #expect(try await node.exit(of: counter).exitCode == 5)
        #expect(try node.log("host-counter") == (1...40).map { "stdout F line \($0)" })
        #expect(try node.log("host-ended") == ["stdout F bye"])
        try await remove(pod, before)
    }

    /// As long as a kubelet renames the file and asks for another.
    @Test func aLogGoesOnInTheFileThatItsPathNames() async throws {
        let node = try node()
        let pod = try await node.runHostPod("rotated")
        let container = try await run(
            in: pod, "host-log", ["/bin/sh", "-c", "i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo $i; sleep 0.05; done"])
        try await node.waitForLog("host-log", lines: 3)
        try FileManager.default.moveItem(atPath: "\(node.logs)/host-log.log", toPath: "\(node.logs)/host-log-old.log")
        _ = try await node.cri.call(RuntimeRPC.reopenContainerLog, .with { $0.containerID = container })
        try await node.waitForLog("host-log")
        // Who asks once more has lost nothing.
        _ = try await node.cri.call(RuntimeRPC.reopenContainerLog, .with { $0.containerID = container })
        #expect(try await node.exit(of: container).exitCode == 0)
        let lines = try node.log("host-log-old") + node.log("host-log")
        #expect(lines == (1...30).map { "stdout F \($0)" })
        #expect(try !node.log("host-log").isEmpty)
        try await node.removePod(pod)
    }

    @Test func aContainerWhoseMonitorIsKilledEndsAndSaysThatItsCodeIsUnknown() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let pod = try await node.runHostPod("orphan")
        let container = try await run(in: pod, "orphan", ["/bin/sleep", "3"])
        let bundle = "\(node.run)/host/\(pod.prefix(13))/\(container.prefix(13))"
        let text = try String(contentsOfFile: "\(bundle)/conmon.pid", encoding: .utf8)
        kill(try #require(Int32(text.trimmingCharacters(in: .whitespacesAndNewlines))), SIGKILL)
        let ended = try await node.exit(of: container)
        #expect(ended.exitCode == 255 && ended.message.contains("conmon"))
        try await remove(pod, before)
    }

    /// One boot: both ways, by the VM pod's address and the bridge's.
    @Test func aPodInTheNodesNetworkAndAVMPodTalkToEachOther() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        // Without a handler's name: the configuration has it taken by host.
        let host = try await node.runPod("hostnet") {
            $0.linux.securityContext.namespaceOptions.network = .node
            $0.linux.securityContext.namespaceOptions.pid = .container
        }
        #expect(try await node.podStatus(host).status.runtimeHandler == "host")
        let machine = try await node.runPod("machine")
        let address = try await node.podStatus(machine).status.network.ip
        @Sendable func inNode(_ config: inout CRIContainerConfig) { config.linux.securityContext.namespaceOptions.network = .node }
        let server = try await run(
            in: host, "host-server", ["/bin/sh", "-c", "while true; do echo from the node | nc -l -p 9100; done"], inNode)
        let vm = try await node.runContainer(
            in: machine, "vm-server", ["/bin/sh", "-c", "while true; do echo from the machine | nc -l -p 9000; done"])
        let ask = "for i in $(seq 50); do nc -w 3 ADDRESS </dev/null 2>/dev/null && break; sleep 0.2; done"
        #expect(try await node.shell(server, ask.replacing("ADDRESS", with: "\(address) 9000")) == "from the machine\n")
        let gateway = try await node.shell(vm, "busybox ip route | awk '/default/ { print $3 }'").trimmingCharacters(
            in: .whitespacesAndNewlines)
        #expect(try await node.shell(vm, ask.replacing("ADDRESS", with: "\(gateway) 9100")) == "from the node\n")
        let names = try await node.shell(server, "echo $HOSTNAME; cat /etc/hostname; uname -n").split(separator: "\n")
        #expect(names.count == 3 && Set(names).count == 1, "\(names)")
        #expect(try await node.exec(server, ["/bin/sh", "-c", "echo more > /etc/resolv.conf"]).exitCode != 0)
        try await node.removePod(machine)
        try await remove(host, before)
    }

    /// As a process in the node's PID namespace that its first process has left would hold ports and locks against the next attempt.
    @Test func allProcessesEndWithTheFirstOne() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let pod = try await node.runHostPod("leaving") { $0.linux.securityContext.namespaceOptions.pid = .node }
        let container = try await run(
            in: pod, "leaving", ["/bin/sh", "-c", "sleep 801 & (while :; do echo more; sleep 0.1; done) & sleep 1; exit 6"]
        ) {
            $0.linux.securityContext.namespaceOptions.pid = .node
        }
        #expect(try await node.exit(of: container).exitCode == 6)
        #expect(try await Spawn("/usr/bin/pgrep", ["-f", "sleep 801"]).run().status == 1)
        try await remove(pod, before)
    }

    @Test func mountsGoBothWaysAndOneContainerJoinsAnothersProcesses() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let directory = "\(node.environment.scratch)/shared"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        #expect(mount(directory, directory, nil, 4096, nil) == 0)  // MS_BIND
        #expect(mount(nil, directory, nil, 1 << 20, nil) == 0)  // MS_SHARED
        defer {
            umount2(directory, 2)
            try? FileManager.default.removeItem(atPath: directory)
        }
        let pod = try await node.runHostPod("mounts")
        let container = try await run(in: pod, "mounting", ["/bin/sleep", "600"]) {
            $0.linux.securityContext.privileged = true
            $0.mounts = [
                .with {
                    ($0.hostPath, $0.containerPath) = (directory, "/shared")
                    $0.propagation = .propagationBidirectional
                }
            ]
        }
        let made = try await node.shell(
            container, "mkdir -p /shared/own && busybox mount -t tmpfs none /shared/own && echo in > /shared/own/file")
        #expect(made.isEmpty)
        #expect(try String(contentsOfFile: "\(directory)/own/file", encoding: .utf8) == "in\n")
        #expect(try await node.shell(container, "busybox umount /shared/own; ls /shared/own").isEmpty)
        try FileManager.default.createDirectory(atPath: "\(directory)/node", withIntermediateDirectories: true)
        #expect(mount("none", "\(directory)/node", "tmpfs", 0, nil) == 0)
        try "out\n".write(toFile: "\(directory)/node/file", atomically: false, encoding: .utf8)
        #expect(try await node.shell(container, "cat /shared/node/file; ls /dev/kmsg") == "out\n/dev/kmsg\n")
        umount2("\(directory)/node", 2)
        let joined = try await run(in: pod, "joined", ["/bin/sh", "-c", "busybox ps"]) {
            $0.linux.securityContext.namespaceOptions.pid = .target
            $0.linux.securityContext.namespaceOptions.targetID = container
        }
        #expect(try await node.exit(of: joined).exitCode == 0)
        #expect(try node.log("joined").contains { $0.contains("sleep 600") })
        try await remove(pod, before)
    }

    @Test func statisticsAndLimitsAreTheKernels() async throws {
        let node = try node()
        let pod = try await node.runHostPod("limits") { $0.linux.cgroupParent = "/swiftlet-test-\(getpid())/limits" }
        let container = try await run(in: pod, "limited", ["/bin/sh", "-c", "while :; do :; done"]) {
            $0.linux.resources.memoryLimitInBytes = 64 << 20
            ($0.linux.resources.cpuQuota, $0.linux.resources.cpuPeriod) = (20_000, 100_000)
        }
        let group = "/sys/fs/cgroup/memory/swiftlet-test-\(getpid())/limits/\(container)"
        func limit() throws -> String {
            try String(contentsOfFile: "\(group)/memory.limit_in_bytes", encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        }
        #expect(try limit() == "\(64 << 20)")
        try await eventually("CPU time is counted") {
            let stats = try await node.cri.call(RuntimeRPC.containerStats, .with { $0.containerID = container }).stats
            return stats.cpu.usageCoreNanoSeconds.value > 50_000_000 && stats.memory.workingSetBytes.value > 0
        }
        _ = try await node.cri.call(
            RuntimeRPC.updateContainerResources,
            .with {
                $0.containerID = container
                $0.linux.memoryLimitInBytes = 96 << 20
            })
        #expect(try limit() == "\(96 << 20)")
        let eater = try await run(in: pod, "eater", ["/bin/sh", "-c", "x=x; while :; do x=$x$x; done"]) {
            $0.linux.resources.memoryLimitInBytes = 16 << 20
        }
        let ended = try await node.exit(of: eater)
        #expect(ended.exitCode == 137 && ended.reason == "OOMKilled")
        // The test and the daemon work in the same directory.
        #expect(access("oom", F_OK) != 0, "conmon notes it in its bundle alone")
        try await node.removePod(pod)
        #expect(!FileManager.default.fileExists(atPath: group))
        for hierarchy in try FileManager.default.contentsOfDirectory(atPath: "/sys/fs/cgroup") {
            rmdir("/sys/fs/cgroup/\(hierarchy)/swiftlet-test-\(getpid())/limits")
            rmdir("/sys/fs/cgroup/\(hierarchy)/swiftlet-test-\(getpid())")
        }
    }

    @Test func theDefaultSeccompProfileHoldsAndFollowsTheCapabilities() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let pod = try await node.runHostPod("seccomp")
        let look = "grep ^Seccomp: /proc/self/status; busybox unshare -U true 2>&1; echo $?"
        let standard = try await run(in: pod, "seccomp-default", ["/bin/sleep", "600"]) {
            $0.linux.securityContext.seccomp.profileType = .runtimeDefault
        }
        let confined = try await node.shell(standard, look)
        #expect(confined.hasPrefix("Seccomp:\t2\n") && confined.contains("not permitted") && !confined.hasSuffix("\n0\n"), "\(confined)")
        let work = "seq 1 1000 | sort -rn | head -1; wget -q -O - http://127.0.0.1:1/ 2>&1 | grep -c refused"
        #expect(try await node.shell(standard, work).hasPrefix("1000\n1\n"))
        let administrator = try await run(in: pod, "seccomp-admin", ["/bin/sleep", "600"]) {
            $0.linux.securityContext.seccomp.profileType = .runtimeDefault
            $0.linux.securityContext.capabilities.addCapabilities = ["SYS_ADMIN"]
        }
        #expect(try await node.shell(administrator, look) == "Seccomp:\t2\n0\n")
        let free = try await run(in: pod, "seccomp-free", ["/bin/sleep", "600"])
        #expect(try await node.shell(free, look) == "Seccomp:\t0\n0\n")
        try await remove(pod, before)
    }

    @Test func imagesAreMountedBesideTheRoot() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let pod = try await node.runHostPod("host-images")
        let container = try await run(in: pod, "host-images", ["/bin/sleep", "600"]) {
            $0.mounts = [
                .image(Node.image, "/whole"), .image(Node.image, "/part") { $0.imageSubPath = "bin" },
                .image(Node.image, "/file") { $0.imageSubPath = "bin/busybox" },
            ]
        }
        #expect(
            try await node.shell(container, "/part/busybox echo runs; ls /whole/bin/busybox; cmp /file /bin/busybox && echo same")
                == "runs\n/whole/bin/busybox\nsame\n")
        #expect(try await node.shell(container, "touch /whole/new 2>&1").contains("Read-only file system"))
        for path in ["nothing/there", "etc/../../etc"] {
            let refused = await refusal {
                _ = try await self.create(in: pod, "host-refused", ["/bin/true"]) {
                    $0.mounts = [.image(Node.image, "/part") { $0.imageSubPath = path }]
                }
            }
            #expect(refused?.message.contains(path) == true || refused?.message.contains("ImageVolumeMountFailed") == true, "\(path)")
        }
        await node.kill()
        try await node.launch()
        #expect(try await node.shell(container, "/part/busybox echo again") == "again\n")
        try await remove(pod, before)
    }

    /// A script in the place of the runtime, which is runc but for `create`.
    private func writeRuntime(_ name: String, _ create: String) throws -> String {
        try FileManager.default.createDirectory(atPath: runtimes, withIntermediateDirectories: true)
        let path = "\(runtimes)/\(name)"
        let text = """
            #!/bin/sh
            create=
            for word; do [ "$word" = create ] && create=1; done
            [ -n "$create" ] || exec runc "$@"
            \(create)

            """
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
        return path
    }

    @Test func aRuntimeThatHangsInCreateIsEndedInTime() async throws {
        let node = try node()
        _ = try writeRuntime("stuck", "sleep 6173 & wait")
        defer { try? FileManager.default.removeItem(atPath: "\(runtimes)/stuck") }
        let before = try await Footprint.now(node)
        let pod = try await node.runHostPod("stuck", handler: "stuck")
        let container = try await create(in: pod, "stuck", ["/bin/sleep", "600"])
        let start = ContinuousClock.now
        let refused = await refusal { try await node.start(container) }
        #expect(refused?.code == .deadlineExceeded, "\(String(describing: refused))")
        #expect(ContinuousClock.now - start < .seconds(60))
        #expect(try await node.status(of: container).reason == "StartError")
        #expect(try await Spawn("/usr/bin/pgrep", ["-f", "sleep 6173|conmon.*\(container)"]).run().status == 1, "something is left")
        try await remove(pod, before)
    }

    /// What a killed runtime leaves is in no file, and in conmon's group alone.
    @Test func aRuntimeThatIsKilledInCreateLeavesNothing() async throws {
        let node = try node()
        let note = "\(runtimes)/child"
        _ = try writeRuntime("killed", "setsid sleep 6174 </dev/null >/dev/null 2>&1 & echo $! >\(note); kill -KILL $$")
        defer { try? FileManager.default.removeItem(atPath: runtimes) }
        let before = try await Footprint.now(node)
        let pod = try await node.runHostPod("killed", handler: "killed") { $0.linux.cgroupParent = "/swiftlet-test-\(getpid())/killed" }
        let container = try await create(in: pod, "killed", ["/bin/sleep", "600"])
        let refused = await refusal { try await node.start(container) }
        #expect(refused != nil)
        let child = try #require(Int32(try String(contentsOfFile: note, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)))
        try await eventually("the runtime's child ends") { ProcessIdentity.of(child)?.isAlive != true }
        try await node.stopPod(pod)
        try await node.removePod(pod)
        // The kubelet's groups stay until it takes them away, which fails where something is left in them.
        for hierarchy in try FileManager.default.contentsOfDirectory(atPath: "/sys/fs/cgroup") {
            let group = "/sys/fs/cgroup/\(hierarchy)/swiftlet-test-\(getpid())"
            rmdir("\(group)/killed")
            #expect(rmdir(group) == 0 || errno == ENOENT || errno == ENOTDIR, "\(group)")
        }
        try await before.expectNothingAdded(node)
    }

    @Test func whoMayUseTheNodeIsTheAdministratorsWord() async throws {
        let node = try node()
        let other = await refusal { _ = try await node.runHostPod("tenant") { $0.metadata.namespace = "tenants" } }
        #expect(other?.code == .permissionDenied && other?.message.contains("tenants") == true)
        let machine = await refusal {
            _ = try await node.runHostPod("explicit", handler: "microvm") { $0.linux.securityContext.namespaceOptions.network = .node }
        }
        #expect(machine?.code == .invalidArgument && machine?.message.contains("RuntimeClass") == true)
        let absent = await refusal { _ = try await node.runHostPod("absent", handler: "absent") }
        #expect(absent?.code == .failedPrecondition && absent?.message.contains("/nonexistent/runc") == true)
        let log = try String(contentsOfFile: node.daemonLog, encoding: .utf8)
        for line in ["pod refused on the node", "pod that needs the node refused"] { #expect(log.contains(line)) }
    }
}

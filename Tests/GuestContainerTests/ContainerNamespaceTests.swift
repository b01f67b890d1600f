import AgentProtocol
import Errors
import Testing

/// IPC and user namespaces of containers.
@Suite struct ContainerNamespaceTests {
    private let image = TestImage.plain

    private func mapping(_ first: UInt32, length: UInt32 = 65536) -> AgentUserNamespace {
        .with {
            $0.uids = [
                .with {
                    $0.hostID = first
                    $0.length = length
                }
            ]
            $0.gids = $0.uids
        }
    }

    @Test func containersShareThePodsIPCUnlessTheyHaveTheirOwnOrAnothers() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            let script = ["sh", "-c", "readlink /proc/self/ns/ipc; ls /dev/shm"]
            var shared = image.shell("touch /dev/shm/pod; sleep 1000")
            try await probe.launch("shared", shared)
            try await probe.until("shared", "test", "-e", "/dev/shm/pod")
            shared = image.shell("sleep 1000")
            try await probe.launch("peer", shared)
            var own = image.shell("touch /dev/shm/own; sleep 1000")
            own.ipcMode = .ipcContainer
            try await probe.launch("own", own)
            try await probe.until("own", "test", "-e", "/dev/shm/own")
            var joined = image.shell("sleep 1000")
            joined.ipcMode = .ipcTarget
            joined.ipcTarget = "own"
            try await probe.launch("joined", joined)

            let pod = try await probe.exec("shared", script).stdout
            let other = try await probe.exec("own", script).stdout
            #expect(pod.hasSuffix("pod\n") && other.hasSuffix("own\n"))
            #expect(pod.split(separator: "\n")[0] != other.split(separator: "\n")[0])
            #expect(try await probe.exec("peer", script).stdout == pod)
            #expect(try await probe.exec("joined", script).stdout == other)

            try await probe.send("release", "own")
            var late = joined
            late.process.args = ["true"]
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("late", late) }
            #expect(error?.code == .failedPrecondition && error?.message.contains("own") == true)
            for id in ["shared", "peer", "joined"] { try await probe.send("release", id) }
            try await probe.send("share-release")
            #expect(try await probe.held().hasPrefix("mounts=0 containers=[] trash=[] cgroups=[]"))
        }
    }

    @Test func aUserNamespaceGivesTheImageAndItsProcessesOtherIds() async throws {
        let image = try TestImage.erofs()
        try await ProbeClient.with(image) { (probe) async throws in
            let script = """
                cat /proc/self/uid_map; id -u; stat -c %u:%g / /etc /home/app /dev/null /dev/shm /made
                touch /new /tmp/new && stat -c %u /new; chown 1000:1001 /new && stat -c %u:%g /new
                grep CapEff /proc/self/status; echo $(hostname) > /etc/own && cat /etc/own
                sleep 1000
                """
            var spec = image.shell(script)
            spec.process.cwd = "/made"
            spec.userNamespace = mapping(100_000)
            spec.process.seccomp.runtimeDefault = true
            spec.mounts = [AgentMountSpec("tmpfs", from: "tmpfs", to: "/volume")]
            try await probe.launch("c", spec)
            let seen = "readlink /proc/1/ns/user; readlink /proc/self/ns/user; id -u; touch /volume/x && stat -c %u /volume /volume/x"
            let look = ["sh", "-c", seen]
            try await probe.until("c", "test", "-e", "/etc/own")
            let lines = try await probe.exec("c", look).stdout.split(separator: "\n")
            #expect(lines.count == 5 && lines[0] == lines[1])
            #expect(lines.dropFirst(2) == ["0", "0", "0"])
            try await probe.send("signal", "c", "9")
            let words = try await probe.wait("c").stdout.split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
            #expect(words.prefix(2) == ["0 100000 65536", "0"])
            #expect(words.dropFirst(2).prefix(6) == ["0:0", "0:0", "0:0", "0:0", "65534:65534", "0:0"], "\(words)")
            #expect(words.dropFirst(8).prefix(2) == ["0", "1000:1001"])
        }
    }

    @Test func containersOfAPodHaveOneMapping() async throws {
        let image = try TestImage.erofs()
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("sleep", "1000")
            spec.userNamespace = mapping(100_000)
            try await probe.launch("c", spec)
            // Another container of the pod with other mappings has no place in it.
            var other = image.spec("true")
            other.userNamespace = mapping(200_000)
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("other", other) }
            #expect(error?.code == .invalidArgument && error?.message.contains("mappings") == true)
        }
    }

    @Test func usersOutsideTheMappingAreRefusedByNumber() async throws {
        let image = try TestImage.erofs()
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("true")
            spec.process.user.name = "70000"
            spec.userNamespace = mapping(100_000)
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", spec) }
            #expect(error?.code == .invalidArgument && error?.message.contains("70000") == true)
        }
    }

    @Test func mappingsWithoutRootOrOutOfRangeAreRefused() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var withoutRoot = mapping(100_000)
            withoutRoot.uids[0].containerID = 1
            for namespace in [withoutRoot, mapping(.max - 5), mapping(1, length: 0), AgentUserNamespace()] {
                var spec = image.spec("true")
                spec.userNamespace = namespace
                let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", spec) }
                #expect(error?.code == .invalidArgument && error?.message.contains("user namespace") == true)
            }
        }
    }

    @Test func strictGroupsLeaveTheImagesGroupsOut() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell("echo $(id -G)")
            spec.process.user.name = "app"
            spec.process.user.strictGroups = true
            spec.process.user.additionalGids = [3000]
            #expect(try await probe.run(spec).stdout == "1001 3000\n")
        }
    }
}

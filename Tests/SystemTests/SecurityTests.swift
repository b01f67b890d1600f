import CRI
import Errors
import Foundation
import GRPC
import Glibc
import Linux
import Testing

/// What confines containers in a real guest. One pod for all of it, and one with a user namespace.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("security", pod: { try await $0.runPod("confined") }))
struct SecurityTests {
    private typealias Security = CRILinuxContainerSecurityContext

    private func run(_ node: Node, _ pod: String, _ name: String, _ change: @Sendable (inout Security) -> Void) async throws -> String {
        try await node.runContainer(in: pod, name, ["/bin/sleep", "6000"]) {
            $0.linux.securityContext.namespaceOptions.pid = .container
            change(&$0.linux.securityContext)
        }
    }

    private func refusal(
        _ node: Node, _ pod: String, _ name: String, _ change: @escaping @Sendable (inout CRIContainerConfig) -> Void
    ) async -> GRPCStatus? {
        await #expect(throws: GRPCStatus.self, "\(name)") {
            try await node.createContainer(in: pod, name, ["/bin/true"]) { change(&$0) }
        }
    }

    @Test func seccompProfilesHold() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let look = "grep ^Seccomp: /proc/self/status; unshare -m true 2>&1 || true"
        let standard = try await run(node, pod, "runtime-default") { $0.seccomp.profileType = .runtimeDefault }
        let confined = try await node.shell(standard, look)
        #expect(confined.hasPrefix("Seccomp:\t2\n") && confined.contains("not permitted"), "\(confined)")
        // Everyday work goes on below the default profile.
        let work = "seq 1 1000 | sort -rn | head -1; wget -q -O - http://127.0.0.1:1/ 2>&1 | grep -c refused"
        #expect(try await node.shell(standard, work).hasPrefix("1000\n1\n"))
        let free = try await run(node, pod, "unconfined") { $0.seccomp.profileType = .unconfined }
        #expect(try await node.shell(free, look).hasPrefix("Seccomp:\t0\n"))
        let old = try await run(node, pod, "deprecated") { $0.seccompProfilePath = "runtime/default" }
        #expect(try await node.shell(old, look).hasPrefix("Seccomp:\t2\n"))
    }

    @Test func profilesOfTheNodeHoldOrAreRefused() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let directory = try Node.Environment.current().scratch
        func profile(_ name: String, _ json: String) throws -> String {
            try Data(json.utf8).write(to: URL(fileURLWithPath: "\(directory)/\(name)"))
            return "\(directory)/\(name)"
        }
        let rule = "{\"names\": [\"chmod\", \"fchmodat\"], \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 28}"
        let good = try profile("good.json", "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [\(rule)]}")
        let container = try await run(node, pod, "localhost") {
            $0.seccomp.profileType = .localhost
            $0.seccomp.localhostRef = good
            $0.runAsUser.value = 1000
            $0.noNewPrivs = true
        }
        let answer = try await node.shell(container, "touch /tmp/f; chmod 600 /tmp/f; id -u")
        #expect(answer.contains("No space left on device") && answer.hasPrefix("1000\n"), "\(answer)")

        let mistyped = try profile(
            "mistyped.json",
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [\(rule.replacingOccurrences(of: "\"chmod\"", with: "\"chmood\""))]}")
        let noJSON = try profile("text.json", "defaultAction: allow")
        let machine = try profile("arch.json", "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"architectures\": [\"SCMP_ARCH_VAX\"]}")
        for (path, text) in [
            (mistyped, "chmood"), (noJSON, "not JSON"), (machine, "SCMP_ARCH_VAX"), ("\(directory)/absent.json", "absent.json"),
        ] {
            let status = await refusal(node, pod, "refused") {
                $0.linux.securityContext.seccomp.profileType = .localhost
                $0.linux.securityContext.seccomp.localhostRef = path
            }
            #expect(status?.message.contains(text) == true, "\(String(describing: status))")
            #expect(status?.code == (path.hasSuffix("absent.json") ? .notFound : .invalidArgument))
        }
    }

    @Test func onlyAllowedDevicesAreReached() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let container = try await node.runContainer(in: pod, "devices", ["/bin/sleep", "6000"]) {
            $0.devices = [("/dev/fuse", "/dev/fuse"), ("/dev/net/tun", "/dev/net/tun")].map { paths in
                .with {
                    $0.hostPath = paths.0
                    $0.containerPath = paths.1
                    $0.permissions = "rwm"
                }
            }
            $0.linux.securityContext.capabilities.addCapabilities = ["NET_ADMIN"]
        }
        let opened = try await node.shell(container, "for d in /dev/fuse /dev/net/tun; do (exec 3<>$d) && echo opened; done")
        #expect(opened == "opened\nopened\n")
        let refused = try await node.shell(
            container, "mknod /tmp/disk b 8 0; head -c 1 /tmp/disk; mknod /tmp/log c 1 11; head -c 1 /tmp/log")
        #expect(refused.components(separatedBy: "not permitted").count == 3, "\(refused)")
        for (path, code) in [("/dev/none", GRPCStatus.Code.invalidArgument), ("/dev/loop-control", .unimplemented)] {
            let status = await refusal(node, pod, "refused") {
                $0.devices = [
                    .with {
                        $0.hostPath = path
                        $0.containerPath = "/dev/x"
                        $0.permissions = "rwm"
                    }
                ]
            }
            #expect(status?.code == code && status?.message.contains(path) == true, "\(String(describing: status))")
        }
    }

    @Test func usersAndGroupsAreThoseAskedFor() async throws {
        let (node, pod) = (try node(), try sharedPod())
        // In the sample image "user" (1000) is a member of "staff" (50).
        let merged = try await run(node, pod, "merge") {
            $0.runAsUsername = "user"
            $0.supplementalGroups = [3000]
        }
        #expect(try await node.shell(merged, "id -G").split(whereSeparator: \.isWhitespace).count == 3)
        let user = try await node.status(of: merged).user.linux
        #expect(user.uid == 1000 && user.gid == 1000 && user.supplementalGroups == [1000, 50, 3000])
        let strict = try await run(node, pod, "strict") {
            $0.runAsUser.value = 1000
            $0.runAsGroup.value = 2000
            $0.supplementalGroups = [3000]
            $0.supplementalGroupsPolicy = .strict
        }
        #expect(try await node.shell(strict, "id -u; id -g; id -G") == "1000\n2000\n2000 3000\n")
        #expect(try await node.status(of: strict).user.linux.supplementalGroups == [2000, 3000])
        for (name, text) in [("nobody-here", "nobody-here"), ("", "run_as_group")] {
            let status = await refusal(node, pod, "refused") {
                $0.linux.securityContext.runAsUsername = name
                if name.isEmpty { $0.linux.securityContext.runAsGroup.value = 5 }
            }
            #expect(status?.code == .invalidArgument && status?.message.contains(text) == true, "\(String(describing: status))")
        }
    }

    @Test func capabilitiesAreThoseAskedFor() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let sets = "grep -E '^(CapBnd|CapAmb|CapEff|NoNewPrivs)' /proc/self/status | tr -d '\\t' | tr '\\n' ' '"
        let ambient = try await run(node, pod, "ambient") {
            $0.runAsUser.value = 1000
            $0.capabilities.dropCapabilities = ["ALL"]
            $0.capabilities.addAmbientCapabilities = ["NET_BIND_SERVICE"]
            $0.noNewPrivs = true
        }
        let bind = "0000000000000400"
        #expect(try await node.shell(ambient, sets) == "CapEff:\(bind) CapBnd:\(bind) CapAmb:\(bind) NoNewPrivs:1 ")
        let all = try await run(node, pod, "all") { $0.capabilities.addCapabilities = ["ALL"] }
        #expect(try await node.shell(all, sets).contains("CapBnd:000001ffffffffff"))
    }

    /// Also by 32-bit calls, whose arguments no seccomp filter sees, and with every right.
    @Test func noContainerReachesAnybodyByVsock() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let volumes = try Volumes(node)
        let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("VsockGuest/vsock_container.c").path
        let built = try await Spawn("/usr/bin/gcc", ["-O2", "-static", "-no-pie", "-o", volumes.path("data/vsock"), source]).run()
        #expect(built.succeeded, "\(built.errorText)")
        let profiles: [(name: String, change: @Sendable (inout CRILinuxContainerSecurityContext) -> Void)] = [
            ("default", { $0.seccomp.profileType = .runtimeDefault }), ("unconfined", { $0.seccomp.profileType = .unconfined }),
            ("privileged", { $0.privileged = true }),
        ]
        for (name, change) in profiles {
            let container = try await node.runContainer(in: pod, "vsock-\(name)", ["/data/vsock"]) {
                change(&$0.linux.securityContext)
                $0.mounts = [.host(volumes.path("data"), "/data")]
            }
            #expect(try await node.exit(of: container).exitCode == 0)
            let lines = try node.log("vsock-\(name)")
            #expect(lines.count == 3 && lines.last == "stdout F done", "\(name): \(lines)")
            if name == "default" { #expect(lines.first == "stdout F socket Operation not permitted") }
            try await node.removeContainer(container)
        }
        try volumes.remove()
    }

    @Test func ipcNamespacesAreSharedAsAskedFor() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let look = "readlink /proc/self/ns/ipc; ls /dev/shm"
        let shared = try await run(node, pod, "ipc-pod") { _ in }
        _ = try await node.shell(shared, "touch /dev/shm/pod")
        let peer = try await run(node, pod, "ipc-peer") { _ in }
        #expect(try await node.shell(peer, look).hasSuffix("\npod\n"))
        let own = try await run(node, pod, "ipc-own") { $0.namespaceOptions.ipc = .container }
        _ = try await node.shell(own, "touch /dev/shm/own")
        let joined = try await run(node, pod, "ipc-target") {
            $0.namespaceOptions.ipc = .target
            $0.namespaceOptions.pid = .target
            $0.namespaceOptions.targetID = own
        }
        let seen = try await node.shell(own, look)
        #expect(seen.hasSuffix("\nown\n"))
        #expect(try await node.shell(joined, look) == seen)
        #expect(try await node.shell(joined, "ps -o args | grep -c '[s]leep 6000'") == "2\n")
        let status = await refusal(node, pod, "refused") {
            $0.linux.securityContext.namespaceOptions.ipc = .target
            $0.linux.securityContext.namespaceOptions.targetID = "feed"
        }
        #expect(status?.code == .invalidArgument && status?.message.contains("target_id") == true)
    }

    /// As a kubelet asks for procMount Default, and for Unmasked.
    @Test func pathsAreMaskedAsAskedFor() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let look = "head -c 1 /proc/kcore | wc -c; ls /sys/firmware | wc -l; echo 300000 > /proc/sys/vm/max_map_count && echo written"
        let masked = try await run(node, pod, "masked") {
            ($0.maskedPaths, $0.readonlyPaths) = (["/proc/kcore", "/sys/firmware"], ["/proc/sys"])
        }
        let hidden = try await node.shell(masked, look)
        #expect(hidden.hasPrefix("0\n0\n") && hidden.contains("Read-only file system"), "\(hidden)")
        let unmasked = try await run(node, pod, "unmasked") { _ in }
        let shown = try await node.shell(unmasked, look)
        #expect(shown.contains("\nwritten\n") && !shown.contains("\n0\nwritten"), "\(shown)")
    }

    @Test func aPrivilegedContainerSeesTheMachine() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let container = try await run(node, pod, "privileged") {
            $0.privileged = true
            $0.seccomp.profileType = .runtimeDefault
        }
        let seen = try await node.shell(
            container, "grep ^Seccomp: /proc/self/status; [ -b /dev/sda ] && head -c 1 /dev/sda | wc -c; [ -c /dev/kmsg ] && echo kmsg")
        #expect(seen == "Seccomp:\t0\n1\nkmsg\n", "\(seen)")
    }

    /// All that a container with every right tries against the agent; the pod goes on.
    @Test func noContainerStopsTheAgent() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let attack = """
            trap '' TERM INT HUP
            kill -9 1; kill -STOP 1; kill -9 -1
            for pid in /proc/[0-9]*; do case $(cat $pid/comm) in *agent*) echo agent seen; esac; done
            echo ready
            while true; do sleep 1; done
            """
        let hostile = try await node.runContainer(in: pod, "hostile", ["/bin/sh", "-c", attack]) {
            $0.linux.securityContext.namespaceOptions.pid = .container
            $0.linux.securityContext.capabilities.addCapabilities = ["ALL"]
        }
        try await node.waitForLog("hostile", line: "ready")
        #expect(try !node.log("hostile").contains { $0.contains("agent seen") })
        #expect(try await node.status(of: hostile).state == .containerRunning)
        _ = try await node.cri.call(
            RuntimeRPC.stopContainer,
            .with {
                $0.containerID = hostile
                $0.timeout = 1
            })
        #expect(try await node.status(of: hostile).exitCode == 137)
        // The process that holds the pod's PID namespace is as deaf.
        let after = try await run(node, pod, "after") {
            $0.namespaceOptions.pid = .pod
            $0.capabilities.addCapabilities = ["ALL"]
        }
        #expect(try await node.shell(after, "kill -9 1; kill -STOP 1; kill -SEGV 1; cat /proc/1/comm; ls -A /proc/1/root") == "pause\n")
    }

    /// Looks into every process that shows up in the pod's PID namespace while the agent runs commands there.
    @Test func noContainerSeesTheAgentsProcesses() async throws {
        let (node, pod) = (try node(), try sharedPod())
        // Programs of the image are busybox; what else runs or can be looked into has come from the agent.
        let watch = """
            echo watching
            until [ -e /tmp/enough ]; do
                for p in /proc/[0-9]*; do
                    exe=$(readlink $p/exe) && [ "$exe" != /bin/busybox ] && echo "program $p $exe"
                    [ -e $p/root/lib/modules ] && echo "root $p"
                done
                cat /proc/1/environ /proc/1/maps && echo "pause read"
            done 2>/dev/null
            echo done
            """
        let tracer = try await node.runContainer(in: pod, "tracer", ["/bin/sh", "-c", watch]) {
            $0.linux.securityContext.namespaceOptions.pid = .pod
        }
        try await node.waitForLog("tracer")
        for number in 0..<10 {
            let seen = try await node.shell(tracer, "echo \(number); head -c 1 /proc/1/mem 2>&1 | grep -c denied")
            #expect(seen == "\(number)\n1\n", "\(seen)")
        }
        _ = try await node.shell(tracer, "touch /tmp/enough")
        #expect(try await node.exit(of: tracer).exitCode == 0)
        #expect(try node.log("tracer") == ["stdout F watching", "stdout F done"])
    }

    /// The guest may forbid all tracing, also the agent's, for as long as it runs: containers start all the same.
    @Test func containersStartWithoutTracing() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let privileged = try await run(node, pod, "yama") { $0.privileged = true }
        let scope = "/proc/sys/kernel/yama/ptrace_scope"
        #expect(try await node.shell(privileged, "echo 3 > \(scope); cat \(scope)") == "3\n")
        let untraced = try await run(node, pod, "untraced") { _ in }
        #expect(try await node.shell(untraced, "echo runs") == "runs\n")
        let error = await #expect(throws: GRPCStatus.self) { try await node.runContainer(in: pod, "absent", ["/bin/absent"]) }
        #expect(error?.message.contains("/bin/absent") == true, "\(error?.message ?? "none")")
    }

    /// A kubelet mounts the volumes of such a pod with the pod's own ranges: ids are the same in the container and on the node.
    private func checkMappedVolume(_ node: Node, _ pod: String, _ namespace: CRIUserNamespace) async throws {
        let volumes = try Volumes(node)
        let container = try await node.runContainer(in: pod, "volume", ["/bin/sleep", "6000"]) {
            $0.linux.securityContext.namespaceOptions.usernsOptions = namespace
            $0.linux.securityContext.runAsUser.value = 1000
            $0.mounts = [false, true].map { readOnly in
                .host(volumes.path("data"), readOnly ? "/readonly" : "/data") {
                    ($0.uidMappings, $0.gidMappings, $0.readonly) = (namespace.uids, namespace.gids, readOnly)
                }
            }
            $0.mounts.append(.image(Node.image, "/image") { ($0.uidMappings, $0.gidMappings) = (namespace.uids, namespace.gids) })
            $0.mounts.append(.image(Node.image, "/part") { $0.imageSubPath = "home" })
        }
        #expect(
            try await node.shell(container, "stat -c %u:%g /image /image/bin/busybox /image/home/user /part/user")
                == "0:0\n0:0\n1000:1000\n1000:1000\n")
        let other = await #expect(throws: GRPCStatus.self) {
            try await node.createContainer(in: pod, "other", ["/bin/true"]) {
                $0.linux.securityContext.namespaceOptions.usernsOptions = namespace
                $0.mounts = [
                    .image(Node.image, "/image") {
                        $0.uidMappings = [.with { ($0.hostID, $0.length) = (65536, 65536) }]
                        $0.gidMappings = $0.uidMappings
                    }
                ]
            }
        }
        #expect(other?.code == .invalidArgument && other?.message.contains("uidMappings") == true, "\(String(describing: other))")
        chmod(volumes.path("data"), 0o777)
        let seen = try await node.shell(
            container, "stat -c %u:%g:%a /data/owned; echo mine > /data/mine && stat -c %u:%g /data/mine; touch /readonly/x")
        #expect(seen.hasPrefix("1234:4321:640\n1000:1000\n") && seen.contains("Read-only"), "\(seen)")
        let written = volumes.status("data/mine")
        #expect(written?.st_uid == 1000 && written?.st_gid == 1000 && volumes.read("data/mine") == "mine\n")
        #expect(try await node.shell(container, "cat /data/owned").contains("Permission denied"))
        let mounts = try await node.status(of: container).mounts
        #expect(mounts.first?.uidMappings == namespace.uids && mounts.first?.gidMappings == namespace.gids)
        try await node.removeContainer(container)
        try volumes.remove()
    }

    @Test func aPodWithAUserNamespaceHasOtherIdsInItsGuest() async throws {
        let node = try node()
        let namespace = CRIUserNamespace.with {
            $0.uids = [
                .with {
                    // A kubelet takes multiples of 65536 of all 32 bits: this one is beyond those that a signed number has.
                    $0.hostID = 2_147_549_184
                    $0.length = 65536
                }
            ]
            $0.gids = $0.uids
        }
        let pod = try await node.runPod("mapped") { $0.linux.securityContext.namespaceOptions.usernsOptions = namespace }
        let container = try await run(node, pod, "mapped") {
            $0.namespaceOptions.usernsOptions = namespace
            $0.seccomp.profileType = .runtimeDefault
        }
        let seen = try await node.shell(
            container,
            """
            tr -s ' ' < /proc/self/uid_map; id -u; stat -c %u:%g / /bin/busybox /home/user /dev/null
            touch /new && chown 1000:1000 /new && stat -c %u:%g /new
            echo x > /proc/sys/kernel/panic && echo written
            (echo served | nc -l -p 80 &)
            until grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done
            nc -w 5 127.0.0.1 80 </dev/null
            """)
        #expect(
            seen.hasPrefix(" 0 2147549184 65536\n0\n0:0\n0:0\n1000:1000\n0:0\n1000:1000\n"), "\(seen)")
        #expect(seen.contains("served\n") && !seen.contains("written"), "\(seen)")
        #expect(try await node.podStatus(pod).status.linux.namespaces.options.usernsOptions == namespace)
        try await checkMappedVolume(node, pod, namespace)
        let status = await refusal(node, pod, "refused") { _ in }
        #expect(status?.code == .invalidArgument && status?.message.contains("userns_options") == true)
        try await node.stopPod(pod)
        try await node.removePod(pod)
    }
}

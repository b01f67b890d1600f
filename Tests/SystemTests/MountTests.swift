import CRI
import Foundation
import GRPC
import Glibc
import Linux
import Testing

/// What containers see of the node's files, and what they never reach. Most of it in one pod.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("mounts"))
struct MountTests {
    @Test func aPodSeesTheNodesFilesAsItsMountsSay() async throws {
        let node = try node()
        let volumes = try Volumes(node)
        let before = try await Footprint.now(node)
        let pod = try await node.runPod("mounts")
        #expect(Volumes.servers(node).isEmpty, "a pod without mounts pays nothing")
        let first = try await node.runContainer(in: pod, "first", ["/bin/sleep", "600"]) { config in
            config.mounts = Self.kubeletMounts(volumes)
        }
        let servers = Volumes.servers(node)
        try await checkKubeletFiles(node, volumes, first)
        try await checkOwners(node, volumes, first)
        try await checkReadOnly(node, first)
        try await checkAtomicSwap(node, volumes, first)
        try await checkPlantedNodes(node, volumes, first)
        try await checkLaterMounts(node, volumes, pod, first)
        try await checkStatus(node, first)
        try await checkImageVolumes(node, volumes, pod)
        try await checkMemoryVolume(node, volumes, pod)
        try await checkMappedIDs(node, volumes, pod)
        try await checkReplacedSources(node, volumes, pod)
        try await checkWholeShare(node, volumes, pod)
        try await checkRefusals(node, volumes, pod)
        #expect(Volumes.servers(node) == servers && servers.count == 2, "one share for all containers")
        try await checkRemoval(node, volumes, pod)
        try await node.stopPod(pod)
        #expect(Volumes.servers(node).isEmpty)
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
        #expect(volumes.read("data/from-guest") == "hello\n", "what a container wrote stays")
        try volumes.remove()
    }

    @Test func mountsGoOnWhenTheDaemonIsKilled() async throws {
        let node = try node()
        let volumes = try Volumes(node)
        let before = try await Footprint.now(node)
        let pod = try await node.runPod("kept")
        let first = try await node.runContainer(in: pod, "first", ["/bin/sleep", "600"]) {
            $0.mounts = [.host(volumes.path("data"), "/data")]
        }
        let servers = Volumes.servers(node)
        await node.kill()
        #expect(Volumes.servers(node) == servers)
        try await node.launch()
        #expect(try await node.shell(first, "echo again > /data/again; cat /data/again") == "again\n")
        let second = try await node.runContainer(in: pod, "second", ["/bin/sleep", "600"]) {
            $0.mounts = [.host(volumes.path("data"), "/other")]
        }
        #expect(try await node.shell(second, "cat /other/again") == "again\n")
        #expect(Volumes.servers(node) == servers)
        await node.kill()
        try await node.launch()
        try await node.removePod(pod)
        #expect(volumes.read("data/again") == "again\n")
        try await before.expectNothingAdded(node)
        try volumes.remove()
    }

    @Test func aPodWhoseShareIsLostIsNotReadyAndLeavesNothing() async throws {
        let node = try node()
        let volumes = try Volumes(node)
        let before = try await Footprint.now(node)
        let pod = try await node.runPod("lost")
        let container = try await node.runContainer(in: pod, "first", ["/bin/sleep", "600"]) {
            $0.mounts = [.host(volumes.path("data"), "/data")]
        }
        for pid in Volumes.servers(node) { kill(pid, SIGKILL) }
        #expect(try await node.exit(of: container).message.contains("virtiofsd"))
        try await node.stopPod(pod)
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
        try volumes.remove()
    }

    // MARK: Parts

    private static func kubeletMounts(_ volumes: Volumes) -> [CRIMount] {
        [
            .host(volumes.path("data/below"), "/data/nested"),
            .host(volumes.path("data"), "/data"),
            .host(volumes.path("data"), "/readonly") { $0.readonly = true },
            .host(volumes.path("etc-hosts"), "/etc/hosts"),
            .host(volumes.path("log"), "/dev/termination-log"),
            .host(volumes.path("config"), "/config") { $0.readonly = true },
            .host(volumes.path("secret"), "/var/run/secrets/kubernetes.io/serviceaccount") {
                $0.readonly = true
                $0.recursiveReadOnly = true
            },
            .host(volumes.path("data"), "/noexec") { $0.mountOptions = ["noexec", "nosuid"] },
            .host(volumes.path("shared"), "/private"),
            .host(volumes.path("shared"), "/slave") { $0.propagation = .propagationHostToContainer },
            .host(volumes.path("link-to-data"), "/linked"), .host(volumes.path("sub-path/0"), "/sub"),
            .host(volumes.path("sub-path/1"), "/sub-file") { $0.readonly = true },
        ]
    }

    private func checkKubeletFiles(_ node: Node, _ volumes: Volumes, _ container: String) async throws {
        #expect(try await node.shell(container, "cat /etc/hosts") == "10.0.0.1 kubelet\n")
        #expect(try await node.shell(container, "echo ended > /dev/termination-log") == "")
        #expect(volumes.read("log") == "ended\n")
        #expect(try await node.shell(container, "cat /var/run/secrets/kubernetes.io/serviceaccount/token") == "token\n")
        #expect(
            try await node.shell(container, "echo hello > /data/from-guest; cat /data/nested/file /linked/from-guest") == "below\nhello\n")
        #expect(volumes.read("data/from-guest") == "hello\n")
        #expect(
            try await node.shell(container, "cat /sub/file; echo more >> /sub/file; cat /sub-file; echo x > /sub-file").contains("token\n"))
        #expect(volumes.read("data/below/file") == "below\nmore\n" && volumes.read("secret/token") == "token\n")
        #expect(try await node.shell(container, "echo below > /sub/file; ls -A /sub") == "file\n")
        // A file that is replaced by rename on the node stays the old one in the container, as with every bind mount.
        try volumes.replace("etc-hosts", "10.0.0.2 replaced\n")
        #expect(try await node.shell(container, "cat /etc/hosts") == "10.0.0.1 kubelet\n")
        try "10.0.0.3 rewritten\n".write(toFile: volumes.path("data/rewritten"), atomically: false, encoding: .utf8)
        #expect(try await node.shell(container, "cat /data/rewritten") == "10.0.0.3 rewritten\n")
    }

    private func checkOwners(_ node: Node, _ volumes: Volumes, _ container: String) async throws {
        #expect(
            try await node.shell(container, "touch /data/root; touch /data/user; chown 1000:1001 /data/user; chmod 4755 /data/user") == "")
        #expect(volumes.status("data/root")?.st_uid == 0)
        let user = volumes.status("data/user")
        #expect(user?.st_uid == 1000 && user?.st_gid == 1001 && (user?.st_mode ?? 0) & 0o7777 == 0o4755)
        #expect(try await node.shell(container, "stat -c %u:%g:%a /data/owned") == "1234:4321:640\n")
    }

    private func checkReadOnly(_ node: Node, _ container: String) async throws {
        for directory in ["/readonly", "/config", "/var/run/secrets/kubernetes.io/serviceaccount"] {
            #expect(try await node.shell(container, "touch \(directory)/new").contains("Read-only file system"))
        }
        #expect(try await node.shell(container, "touch /readonly/from-guest").contains("Read-only file system"))
        let run = "cp /bin/busybox /data/busybox; /data/busybox echo ran; /noexec/busybox echo ran"
        let output = try await node.shell(container, run)
        #expect(output.hasPrefix("ran\n") && output.contains("Permission denied"))
    }

    /// What a kubelet does to a ConfigMap: a new directory, and a link that changes over to it.
    private func checkAtomicSwap(_ node: Node, _ volumes: Volumes, _ container: String) async throws {
        #expect(try await node.shell(container, "cat /config/key; readlink /config/key; readlink /config/..data") == "1\n..data/key\n..1\n")
        for version in 2...4 {
            try volumes.swapConfig(to: version)
            let wait = "for i in 1 2 3 4 5 6 7 8 9 10; do [ $(cat /config/key) = \(version) ] && exit 0; sleep 0.1; done; exit 1"
            #expect(try await node.exec(container, ["/bin/sh", "-c", wait]).exitCode == 0, "within a second")
        }
    }

    private func checkPlantedNodes(_ node: Node, _ volumes: Volumes, _ container: String) async throws {
        #expect(try await node.shell(container, "mknod /data/disk b 254 0").contains("Operation not permitted"))
        #expect(try await node.shell(container, "cat /data/node-null").contains("Permission denied"))
        let plant = "ln -s \(volumes.path("outside")) /data/absolute; ln -s ../../outside /data/relative; ln -s / /data/top"
        #expect(try await node.shell(container, plant) == "")
        #expect(try await node.shell(container, "cat /data/absolute").contains("No such file"))
        #expect(try await node.shell(container, "cat /data/relative").contains("No such file"))
        #expect(try await node.shell(container, "ls -d /data/top/bin/busybox") == "/data/top/bin/busybox\n")
        #expect(try await node.shell(container, "nc local:/data/socket < /dev/null || echo refused").contains("refused"))
        let up = try await node.shell(container, "cd /data; cat ../../../../../../../..\(volumes.path("outside"))")
        #expect(up.contains("No such file") || up.contains("can't open"))
    }

    private func checkLaterMounts(_ node: Node, _ volumes: Volumes, _ pod: String, _ container: String) async throws {
        try await volumes.mountTmpfs("shared/later")
        try "late\n".write(toFile: volumes.path("shared/later/file"), atomically: true, encoding: .utf8)
        let wait = "for i in 1 2 3 4 5 6 7 8 9 10; do [ -e /slave/later/file ] && exec cat /slave/later/file; sleep 0.1; done"
        #expect(try await node.shell(container, wait) == "late\n")
        #expect(try await node.shell(container, "cat /private/later/file").contains("No such file"))
        let second = try await node.runContainer(in: pod, "second", ["/bin/sleep", "600"]) {
            $0.mounts = [
                .host(volumes.path("shared"), "/shared") { $0.readonly = true },
                .host(volumes.path("shared"), "/all") { ($0.readonly, $0.recursiveReadOnly) = (true, true) },
                .host(volumes.path("shared"), "/follows") {
                    ($0.readonly, $0.propagation) = (true, .propagationHostToContainer)
                },
            ]
        }
        #expect(try await node.shell(second, "cat /shared/later/file /all/later/file /follows/later/file") == "late\nlate\nlate\n")
        for path in ["/shared/new", "/all/new", "/all/later/new", "/follows/new"] {
            #expect(try await node.shell(second, "touch \(path)").contains("Read-only file system"), "\(path)")
        }
        #expect(try await node.shell(second, "touch /shared/later/new /follows/later/new") == "")
        try await checkUnmountsOfTheNode(node, volumes, pod)
        try await node.removeContainer(second)
    }

    /// A kubelet unmounts and removes what it has mounted below a volume while containers have it.
    private func checkUnmountsOfTheNode(_ node: Node, _ volumes: Volumes, _ pod: String) async throws {
        try await volumes.mountTmpfs("shared/gone")
        try await volumes.mountTmpfs("whole")
        try "kept\n".write(toFile: volumes.path("shared/gone/file"), atomically: true, encoding: .utf8)
        let container = try await node.runContainer(in: pod, "holder", ["/bin/sh", "-c", "cd /copy/gone && exec sleep 600"]) {
            $0.mounts = [
                .host(volumes.path("shared"), "/copy"), .host(volumes.path("shared/gone"), "/gone"), .host(volumes.path("whole"), "/whole"),
            ]
        }
        #expect(try await node.shell(container, "cat /copy/gone/file /gone/file; touch /whole/x") == "kept\nkept\n")
        for name in ["shared/gone", "whole"] {
            #expect(umount(volumes.path(name)) == 0, "\(name): errno \(errno)")
            #expect(rmdir(volumes.path(name)) == 0, "\(name): errno \(errno)")
        }
        try await node.removeContainer(container)
    }

    private func checkStatus(_ node: Node, _ container: String) async throws {
        let mounts = try await node.status(of: container).mounts
        #expect(mounts.map(\.containerPath).contains("/var/run/secrets/kubernetes.io/serviceaccount"))
        #expect(mounts.first { $0.containerPath == "/slave" }?.propagation == .propagationHostToContainer)
        #expect(mounts.first { $0.containerPath == "/noexec" }?.mountOptions == ["noexec", "nosuid"])
    }

    private func checkImageVolumes(_ node: Node, _ volumes: Volumes, _ pod: String) async throws {
        let container = try await node.runContainer(in: pod, "images", ["/bin/sleep", "600"]) {
            $0.mounts = [
                .image(Node.image, "/whole"), .image(Node.image, "/part") { $0.imageSubPath = "bin" },
                .image(Node.image, "/file") { $0.imageSubPath = "bin/busybox" },
            ]
        }
        #expect(
            try await node.shell(container, "/part/busybox echo runs; ls /whole/bin/busybox; cmp /file /bin/busybox && echo same")
                == "runs\n/whole/bin/busybox\nsame\n")
        #expect(try await node.shell(container, "touch /whole/new").contains("Read-only file system"))
        try await node.removeContainer(container)
        for path in ["nothing/there", "etc/../../etc"] {
            let refused = await refusal {
                _ = try await node.createContainer(in: pod, "refused", ["/bin/true"]) {
                    $0.mounts = [.image(Node.image, "/part") { $0.imageSubPath = path }]
                }
            }
            #expect(refused?.message.contains(path) == true || refused?.message.contains("ImageVolumeMountFailed") == true, "\(path)")
        }
    }

    private func checkMemoryVolume(_ node: Node, _ volumes: Volumes, _ pod: String) async throws {
        let path = "pods/u/volumes/kubernetes.io~empty-dir/cache"
        try await volumes.mountTmpfs(path, options: "size=1m,mode=1777")
        try volumes.directory(path + "/sub")
        let whole = try await node.runContainer(in: pod, "whole", ["/bin/sleep", "600"]) {
            $0.mounts = [.host(volumes.path(path), "/cache"), .host(volumes.path(path), "/dev/shm")]
        }
        let part = try await node.runContainer(in: pod, "part", ["/bin/sleep", "600"]) {
            $0.mounts = [.host(volumes.path(path + "/sub"), "/sub")]
        }
        #expect(
            try await node.shell(whole, "stat -f -c %T /cache; stat -c %a /cache; echo warm > /cache/sub/file; ls /dev/shm")
                == "tmpfs\n1777\nsub\n")
        #expect(try await node.shell(part, "cat /sub/file") == "warm\n")
        #expect(try await node.shell(whole, "dd if=/dev/zero of=/cache/big bs=1M count=2").contains("No space left"))
        #expect(volumes.read(path + "/sub/file") == nil, "it is the guest's memory")
        for container in [whole, part] { try await node.removeContainer(container) }
    }

    private func checkMappedIDs(_ node: Node, _ volumes: Volumes, _ pod: String) async throws {
        let container = try await node.runContainer(in: pod, "mapped", ["/bin/sleep", "600"]) {
            $0.mounts = [
                .host(volumes.path("data"), "/mapped") {
                    let range = CRIIDMapping.with {
                        $0.hostID = 100_000
                        $0.length = 65536
                    }
                    $0.uidMappings = [range]
                    $0.gidMappings = [range]
                }
            ]
        }
        #expect(try await node.shell(container, "stat -c %u:%g /mapped/owned") == "101234:104321\n")
        #expect(try await node.shell(container, "chown 100007:100008 /mapped/user; stat -c %u:%g /mapped/user") == "100007:100008\n")
        let status = volumes.status("data/user")
        #expect(status?.st_uid == 7 && status?.st_gid == 8)
        try await node.removeContainer(container)
    }

    /// A source is looked up once: what is put in its place later is nothing to the container.
    private func checkReplacedSources(_ node: Node, _ volumes: Volumes, _ pod: String) async throws {
        try volumes.directory("swapped")
        try "mine\n".write(toFile: volumes.path("swapped/file"), atomically: true, encoding: .utf8)
        let container = try await node.createContainer(in: pod, "swapped", ["/bin/sleep", "600"]) {
            $0.mounts = [.host(volumes.path("swapped"), "/swapped")]
        }
        try FileManager.default.moveItem(atPath: volumes.path("swapped"), toPath: volumes.path("moved"))
        try FileManager.default.createSymbolicLink(atPath: volumes.path("swapped"), withDestinationPath: "/etc")
        try await node.start(container)
        #expect(try await node.shell(container, "cat /swapped/file; ls /swapped") == "mine\nfile\n")
        try FileManager.default.removeItem(atPath: volumes.path("moved"))
        #expect(try await node.exec(container, ["/bin/ls", "/swapped"]).stdout.isEmpty)
        try await node.removeContainer(container)
    }

    /// A container that owns its guest mounts the share's device itself. Whatever of it the kernel shows then, it is this pod's.
    private func checkWholeShare(_ node: Node, _ volumes: Volumes, _ pod: String) async throws {
        let owner = try await node.runContainer(in: pod, "owner", ["/bin/sleep", "600"]) { $0.linux.securityContext.privileged = true }
        let seen = try await node.shell(
            owner,
            """
            mkdir /whole && mount -t virtiofs swiftlet /whole && echo mounted; mknod /whole/disk b 254 0
            cat /whole/../../../../../../../..\(volumes.path("outside")); grep -rsl 'of every mount' /whole; echo searched
            """)
        #expect(seen.hasPrefix("mounted\n") && seen.contains("mknod: /whole/disk: ") && seen.contains("can't open"), "\(seen)")
        #expect(seen.contains("\nsearched\n") && !seen.contains("/whole/outside"), "\(seen)")
        try await node.removeContainer(owner)
    }

    private func checkRefusals(_ node: Node, _ volumes: Volumes, _ pod: String) async throws {
        let cases: [(CRIMount, String)] = [
            (.host(volumes.path("absent"), "/m"), "does not exist"), (.host(volumes.path("data/socket"), "/m"), "unix socket"),
            (.host(volumes.path("data/node-null"), "/m"), "device node"), (.host(volumes.path("pipe"), "/m"), "named pipe"),
            (.host(volumes.path("dangling"), "/m"), "does not exist"), (.host("relative", "/m"), "host_path"),
            (.host("", "/m"), "host_path"), (.host("/", "/m"), "where the pods' shares are"),
            (.host(volumes.path("data"), "m"), "container_path"), (.host(volumes.path("data"), "/"), "container_path"),
            (.host(volumes.path("data"), "/m") { $0.propagation = .propagationBidirectional }, "BIDIRECTIONAL"),
            (.host(volumes.path("data"), "/m") { $0.propagation = .propagationHostToContainer }, "neither shared nor slave"),
            (.host(volumes.path("data"), "/m") { $0.recursiveReadOnly = true }, "needs readonly"),
            (.host(volumes.path("data"), "/m") { $0.mountOptions = ["size=1g"] }, "mount_options"),
            (.host(volumes.path("data"), "/m") { $0.imageSubPath = "x" }, "image_sub_path"),
            (.image("localhost/none:1", "/m"), "pull it first"),
        ]
        for (mount, text) in cases {
            let status = await refusal {
                _ = try await node.createContainer(in: pod, "refused", ["/bin/true"]) { $0.mounts = [mount] }
            }
            #expect(status?.message.contains(text) == true, "\(text): \(String(describing: status))")
            #expect(
                mount.hostPath.hasPrefix("/") == false || mount.containerPath == "/"
                    || status?.message.contains(mount.containerPath) == true)
        }
    }

    private func checkRemoval(_ node: Node, _ volumes: Volumes, _ pod: String) async throws {
        let container = try await node.runContainer(in: pod, "busy", ["/bin/sh", "-c", "cd /data; exec sleep 600"]) {
            $0.mounts = [.host(volumes.path("shared/later"), "/data")]
        }
        #expect(try await node.shell(container, "cat /data/file") == "late\n")
        try await node.removeContainer(container)
        let mounts = try MountedPaths.table()
        #expect(!mounts.contains(container))
    }
}

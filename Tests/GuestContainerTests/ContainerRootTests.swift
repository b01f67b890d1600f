import AgentProtocol
import Errors
import Foundation
import Testing

/// The container's file tree: layers, mounts, masks, and images that try to lead mounts out of it.
@Suite struct ContainerRootTests {
    private let image = TestImage.plain

    @Test func upperLayersHideLowerOnesAndWhiteoutsRemove() async throws {
        let image = try TestImage.extended(by: "mkdir bin etc; echo top > etc/motd; mknod bin/garbage c 0 0; chmod 700 .")
        try await ProbeClient.with(image) { (probe) async throws in
            let outcome = try await probe.run(image.shell("cat /etc/motd; ls /bin/garbage; stat -c %a /; touch /new && echo written"))
            #expect(outcome.stdout == "top\n700\nwritten\n")
            #expect(outcome.stderr.contains("No such file"))
        }
    }

    @Test func containersOfOneImageDoNotSeeEachOthersWrites() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            try await probe.launch("a", image.shell("echo a > /mark; sleep 1000"))
            try await probe.launch("b", image.shell("sleep 1000"))
            try await probe.until("a", "test", "-e", "/mark")
            #expect(try await probe.exec("b", ["ls", "/mark"]).code == 1)
            try await probe.send("release", "a")
            #expect(try await probe.exec("b", ["cat", "/bin/data"]).stdout == "data")
        }
    }

    @Test func readOnlyRootRefusesWritesButTakesMounts() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell(
                "touch /x || echo refused; touch /data/x /dev/shm/x /tmp/new/x && echo written; mount -o remount,rw / || echo still")
            spec.root.readonly = true
            spec.mounts = [.init("tmpfs", from: "tmpfs", to: "/data", ["size=1m", "mode=0700"]), .init("tmpfs", from: "", to: "/tmp/new")]
            #expect(try await probe.run(spec).stdout == "refused\nwritten\nstill\n")
        }
    }

    @Test func theImagesVolumesAreThereAndWritableBelowAReadOnlyRoot() async throws {
        let image = try TestImage.extended(
            by: "mkdir -p data/sub; echo own > data/file; chmod 1777 data; ln -s data link; mkdir -p var; ln -s /run var/run")
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell(
                """
                touch /x || echo refused; cat /data/file; stat -c %a /data
                echo new > /data/file && echo more > /data/sub/more && cat /data/file /data/sub/more
                touch /made/deep/x /var/run/app/x && ls /run/app; touch /made/x || echo refused too
                touch /mounted/x || echo mounted; ls /mounted; cat /link/file
                """)
            spec.volumes = ["/data", "/made/deep", "/var/run/app", "/mounted", "/proc", "/link"]
            spec.mounts = [.init("tmpfs", from: "tmpfs", to: "/mounted", ["ro", "size=1m"])]
            for readOnly in [true, false] {
                spec.root.readonly = readOnly
                let outcome = try await probe.run(spec)
                let refused = readOnly ? ("refused\n", "refused too\n") : ("", "")
                #expect(
                    outcome.stdout == "\(refused.0)own\n1777\nnew\nmore\nx\n\(refused.1)mounted\nnew\n", "\(outcome.stderr)")
            }
        }
    }

    @Test func standardDevicesWork() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            let outcome = try await probe.run(
                image.shell(
                    """
                    for d in null zero full random urandom tty; do stat -c '%n %t:%T %a' /dev/$d; done
                    echo x > /dev/null; head -c 3 /dev/zero | wc -c; echo x > /dev/full || echo full; head -c 5 /dev/urandom | wc -c
                    for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; test -c /dev/pts/ptmx && echo pts
                    """))
            #expect(
                outcome.stdout == """
                    /dev/null 1:3 666
                    /dev/zero 1:5 666
                    /dev/full 1:7 666
                    /dev/random 1:8 666
                    /dev/urandom 1:9 666
                    /dev/tty 5:0 666
                    3
                    full
                    5
                    /proc/self/fd
                    /proc/self/fd/0
                    /proc/self/fd/1
                    /proc/self/fd/2
                    pts/ptmx
                    pts

                    """)
        }
    }

    @Test func kernelFilesystemsAreMountedAsUsual() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            let outcome = try await probe.run(
                image.shell("cut -d' ' -f5,6 /proc/self/mountinfo; cut -d' ' -f5- /proc/self/mountinfo | grep -c ' - cgroup2 '"))
            let lines = Set(outcome.stdout.split(separator: "\n").map(String.init))
            #expect(
                lines.isSuperset(of: [
                    "/proc rw,nosuid,nodev,noexec,relatime", "/sys ro,nosuid,nodev,noexec,relatime",
                    "/sys/fs/cgroup ro,nosuid,nodev,noexec,relatime", "/dev rw,nosuid", "/dev/pts rw,nosuid,noexec,relatime",
                    "/dev/shm rw,nosuid,nodev,noexec,relatime", "/dev/mqueue rw,nosuid,nodev,noexec,relatime", "1",
                ]))
            // Nothing of the agent's own tree is left in the container's mount namespace.
            #expect(lines.allSatisfy { $0 == "1" || ["/ ", "/proc ", "/sys", "/dev", "/etc/"].contains(where: $0.hasPrefix) })
        }
    }

    @Test func podFilesAreSeenUnlessTheSpecMountsItsOwn() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            let own = probe.scratch.appendingPathComponent("own-hosts")
            try Data("10.1.1.1 own\n".utf8).write(to: own)
            var spec = image.shell("cat /etc/hostname /etc/resolv.conf /etc/hosts")
            #expect(try await probe.run(spec).stdout == "probe-pod\nnameserver 10.0.0.10\n127.0.0.1 localhost\n")
            spec.mounts = [.init("bind", from: own.path, to: "/etc//./hosts", ["rbind", "ro"])]
            #expect(try await probe.run(spec).stdout == "probe-pod\nnameserver 10.0.0.10\n10.1.1.1 own\n")
        }
    }

    @Test func bindMountsKeepTheirOptionsAndOrder() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            let volume = probe.scratch.appendingPathComponent("volume")
            try FileManager.default.createDirectory(at: volume, withIntermediateDirectories: true)
            try Data("shared".utf8).write(to: volume.appendingPathComponent("file"))
            var spec = image.shell(
                """
                cat /mnt/ro/file; touch /mnt/ro/x || echo ro; echo new > /mnt/rw/new; ls /mnt/rw; ls /mnt/rw/deep
                grep -E ' /mnt/r[ow] ' /proc/self/mountinfo | cut -d' ' -f5,6
                """
            )
            spec.mounts = [
                .init("bind", from: volume.path, to: "/mnt/ro", ["rbind", "rprivate", "ro", "nosuid"]),
                .init("bind", from: volume.path, to: "/mnt/rw", ["bind", "rw", "noexec"]),
                .init("tmpfs", from: "tmpfs", to: "/mnt/rw/deep", ["size=64k", "nosuid"]),
            ]
            let outcome = try await probe.run(spec)
            #expect(outcome.stdout == "sharedro\ndeep\nfile\nnew\n/mnt/ro ro,nosuid,relatime\n/mnt/rw rw,noexec,relatime\n")
            #expect(try String(contentsOf: volume.appendingPathComponent("new"), encoding: .utf8) == "new\n")
        }
    }

    @Test func missingMountSourceIsNamed() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("true")
            spec.mounts = [.init("bind", from: "/no/such/volume", to: "/data")]
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", spec) }
            #expect(error?.code == .failedPrecondition)
            #expect(error?.message.contains("/no/such/volume") == true)
            #expect(try await probe.held().hasPrefix("mounts=1 containers=[] trash=[] cgroups=[]"))
        }
    }

    @Test func maskedPathsAreEmptyAndReadOnlyOnesRefuseWrites() async throws {
        let image = try TestImage.extended(
            by: "mkdir secret; echo s > secret/key; echo f > secret-file; mkdir fixed; echo o > fixed/f; ln -s secret link")
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell(
                """
                ls /secret | wc -l; wc -c < /secret-file; touch /secret/x || echo no; echo x > /fixed/f || echo ro
                cat /fixed/f; echo 1 > /proc/sys/vm/drop_caches || echo ro; ls /link | wc -l
                """
            )
            spec.maskedPaths = ["/secret", "/secret-file", "/not/there", "/link"]
            spec.readonlyPaths = ["/fixed", "/proc/sys", "/absent"]
            #expect(try await probe.run(spec).stdout == "0\n0\nno\nro\no\nro\n0\n")
        }
    }

    @Test func devicesOfTheSpecAreMade() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell("stat -c '%t:%T %a %u:%g' /dev/sub/nil; echo x > /dev/sub/nil")
            spec.devices = [
                .with {
                    $0.path = "/dev/sub/nil"; $0.type = "c"; $0.major = 1; $0.minor = 3; $0.mode = 0o620; $0.uid = 5; $0.gid = 6
                }
            ]
            #expect(try await probe.run(spec) == .init(code: 0, stdout: "1:3 620 5:6\n", stderr: ""))
        }
    }

    @Test func privilegedContainerHasAllDevicesAndNoRestrictions() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell(
                """
                test -c /dev/loop-control && echo loop; grep -c ' /proc/sys ' /proc/self/mountinfo
                grep ' /sys ' /proc/self/mountinfo | cut -d' ' -f6; test -c /dev/pts/ptmx && echo pts
                """
            )
            spec.privileged = true
            spec.maskedPaths = ["/proc/sys"]
            spec.readonlyPaths = ["/proc/sys"]
            #expect(try await probe.run(spec).stdout == "loop\n0\nrw,nosuid,nodev,noexec,relatime\npts\n")
        }
    }

    @Test func sharedMemoryBelongsToThePod() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            try await probe.launch("a", image.shell("echo hello > /dev/shm/x; sleep 1000"))
            try await probe.until("a", "grep", "-q", "hello", "/dev/shm/x")
            #expect(try await probe.run(image.spec("cat", "/dev/shm/x"), id: "b").stdout == "hello\n")
        }
    }

    /// An image whose directories are links that point out of it, and what must be true afterwards.
    @Test func linksInTheImageLeadNoMountOutOfIt() async throws {
        let image = try TestImage.extended(
            by: """
                mkdir etc data; ln -s /../../../../outside/resolv etc/resolv.conf; ln -s ../../../../../../outside/dir data/volume
                ln -s loop-b loop-a; ln -s loop-a loop-b
                """)
        try await ProbeClient.with(image) { (probe) async throws in
            let volume = probe.scratch.appendingPathComponent("volume")
            try FileManager.default.createDirectory(at: volume, withIntermediateDirectories: true)
            try Data("v".utf8).write(to: volume.appendingPathComponent("v"))
            var spec = image.shell("cat /outside/resolv; ls /outside/dir /outside; cut -d' ' -f5 /proc/self/mountinfo | grep outside")
            spec.mounts = [.init("bind", from: volume.path, to: "/data/volume")]
            let outcome = try await probe.run(spec)
            #expect(outcome.stdout == "nameserver 10.0.0.10\n/outside:\ndir\nresolv\n\n/outside/dir:\nv\n/outside/resolv\n/outside/dir\n")
            #expect(!FileManager.default.fileExists(atPath: "/outside"))
            spec.mounts = [.init("bind", from: volume.path, to: "/loop-a/x")]
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", spec) }
            #expect(error?.code == .invalidArgument)
        }
    }

    @Test(arguments: ["/proc/1/root/etc", "/proc/self/root/etc/hosts", "/proc/self/cwd/x", "/proc/1/fd/0"])
    func magicLinksAreRefusedAsMountTargets(link: String) async throws {
        let image = try TestImage.extended(by: "mkdir etc; ln -s \(link) etc/resolv.conf")
        try await ProbeClient.with(image) { (probe) async throws in
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", image.spec("true")) }
            #expect(error?.code == .invalidArgument)
            #expect(error?.message.contains("/etc/resolv.conf") == true)
        }
    }

    @Test(arguments: [("dev", "/"), ("proc", "/etc"), ("sys", "../../.."), ("dev", "/proc/self/root/dev")])
    func kernelFilesystemsAreNotMountedOverLinks(name: String, target: String) async throws {
        // A whiteout would hide the lower directory; a link of the upper layer replaces it.
        let image = try TestImage.extended(by: "ln -s \(target) \(name)")
        try await ProbeClient.with(image) { (probe) async throws in
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", image.spec("true")) }
            #expect(error?.code == .invalidArgument)
            #expect(error?.message.contains("/\(name)") == true)
            try await probe.send("release", "c")
            #expect(try await probe.held().hasPrefix("mounts=1 containers=[] trash=[] cgroups=[]"))
        }
    }

    @Test func workingDirectoryOverAMagicLinkIsRefused() async throws {
        let image = try TestImage.extended(by: "ln -s /proc/self/fd/4 door; ln -s /proc/1/cwd out")
        try await ProbeClient.with(image) { (probe) async throws in
            for path in ["/door", "/proc/self/fd/4", "/out/../.."] {
                var spec = image.spec("pwd")
                spec.process.cwd = path
                if path == "/out/../.." {
                    #expect(try await probe.run(spec).stdout == "/\n")
                } else {
                    let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", spec) }
                    #expect(error?.code == .invalidArgument)
                    try await probe.send("release", "c")
                }
            }
        }
    }
}

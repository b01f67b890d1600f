import CRI
import Foundation
import Linux
import Testing

@testable import swiftlet

/// A machine on which all is well, until a test takes something away.
private struct MadeUpNode: Node {
    var openFailures: [String: Int32] = [:]
    var files: [String: FileStatus] = [
        "/dev/kvm": FileStatus(mode: 0o660, group: "kvm"), "/usr/share/OVMF/OVMF_CODE_4M.fd": FileStatus(mode: 0o644, group: "root"),
        "/usr/share/OVMF/OVMF_VARS_4M.fd": FileStatus(mode: 0o644, group: "root"), "/usr/bin/swtpm": FileStatus(mode: 0o755, group: "root"),
        "/usr/lib/qemu/virtiofsd": FileStatus(mode: 0o755, group: "root"),
        "/dev/dri/renderD128": FileStatus(mode: 0o660, group: "render"),
    ]
    var texts: [String: String] = [
        "/etc/libvirt/qemu.conf": "# stdio_handler = \"logd\"\nstdio_handler = \"file\"\n",
        "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
        "/etc/cni/net.d/10-pods.conflist": #"{"name": "pods", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}"#,
    ]
    var directories: [String: [String]] = [
        "/usr/lib/cni": ["bridge", "host-local", "portmap"], "/etc/cni/net.d": ["10-pods.conflist", "README"],
        "/usr/lib/swiftlet": ["initramfs.cpio", "vmlinuz"],
    ]
    var sockets: Set<String> = ["/run/libvirt/libvirt-sock"]
    var free: UInt64 = 50_000_000_000
    var programs: Set<String> = [
        "qemu-system-x86_64", "mke2fs", "swiftlet-vsockd", "swiftlet-streamd", "swiftlet-diskinfo",
        "swiftlet-virgl-probe", "qemu-img", "setpriv", "prlimit", "conmon", "runc", "swiftlet-pause",
    ]
    var fileSystemType: String? = "ext4"
    var virglFails = false
    var qemuVersion: String? = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright"
    var layout: Cgroups.Layout? = .v2

    func openFailure(_ path: String) -> Int32? { openFailures[path] }
    func status(_ path: String) -> FileStatus? { files[path] }
    func text(_ path: String) -> String? { texts[path] }
    func entries(_ directory: String) -> [String]? { directories[directory] }
    func connectFailure(_ socket: String) -> String? { sockets.contains(socket) ? nil : "No such file or directory" }
    func space(_ directory: String) -> (free: UInt64, total: UInt64)? { (free, 60_000_000_000) }
    func fileSystem(_ directory: String) -> String? { fileSystemType }
    func program(_ name: String) -> String? { programs.contains(name) ? "/usr/bin/\(name)" : nil }
    var configuration = ProgramEnd(succeeded: true, output: "", errors: "")
    func run(_ program: String, _ arguments: [String]) async -> ProgramEnd? {
        guard !program.hasSuffix("/swiftletd") else { return configuration }
        guard !program.hasSuffix("-virgl-probe") else {
            return ProgramEnd(succeeded: !virglFails, output: "capability set 2, version 2\n", errors: "")
        }
        return qemuVersion.map { ProgramEnd(succeeded: true, output: $0, errors: "") }
    }
    func cgroupLayout() -> Cgroups.Layout? { layout }

    func all() async -> [Finding] {
        [
            MachineChecks.kvm(self), MachineChecks.vsock(self), MachineChecks.streams(self), MachineChecks.tun(self),
            MachineChecks.cgroups(self),
            MachineChecks.disk(self, directory: "/var/lib/swiftlet"), HypervisorChecks.libvirt(self), await HypervisorChecks.qemu(self),
            HypervisorChecks.guest(self, kernel: nil, initramfs: nil, directories: ["/usr/lib/swiftlet"]), HypervisorChecks.tools(self),
            NetworkChecks.cni(self, configurations: "/etc/cni/net.d", plugins: ["/opt/cni/bin", "/usr/lib/cni"]),
        ] + (await VMChecks.all(self, directory: "/var/lib/swiftlet")) + [HostChecks.runtimes(self)]
    }
}

@Suite struct DoctorTests {
    @Test func aMachineThatHasAllIsWell() async {
        #expect(await MadeUpNode().all().filter { $0.verdict != .ok } == [])
    }

    /// What is taken away, and the one check that must notice and say what to do.
    @Test(
        arguments: [
            ("no kvm", "kvm", .warn), ("kvm locked", "kvm", .warn), ("kvm wrong group", "libvirt", .warn), ("no vsock", "vsock", .fail),
            ("no streamd", "streams", .fail),
            ("no tun", "tun", .fail), ("no cgroups", "cgroups", .fail), ("no memory controller", "cgroups", .warn), ("full", "disk", .fail),
            ("nearly full", "disk", .warn), ("no libvirt", "libvirt", .fail), ("virtlogd wanted", "libvirt", .fail),
            ("no qemu", "qemu", .fail),
            ("old qemu", "qemu", .warn), ("broken qemu", "qemu", .fail), ("no guest", "guest", .fail), ("no initramfs", "guest", .fail),
            ("no mke2fs", "tools", .fail), ("no plug-ins", "cni", .fail), ("no network", "cni", .fail), ("bad network", "cni", .fail),
            ("plug-in missing", "cni", .fail), ("no diskinfo", "vm images", .warn), ("no qemu-img", "vm disks", .warn),
            ("no prlimit", "vm disks", .warn), ("no OVMF", "vm uefi", .warn), ("no swtpm", "vm tpm", .warn),
            ("no virtiofsd", "vm files", .warn), ("no probe", "vm virgl", .warn), ("no render node", "vm virgl", .warn),
            ("a driver that fails", "vm virgl", .warn), ("memory for disks", "vm storage", .warn), ("nfs", "vm storage", .warn),
            ("no file system", "vm storage", .warn), ("no conmon", "host pods", .warn), ("no runc", "host pods", .warn),
            ("no pause", "host pods", .warn),
            ("crun and hybrid groups", "host pods", .warn),
        ] as [(String, String, Finding.Verdict)])
    func eachLackIsNoticedAndHasARemedy(_ lack: String, _ check: String, _ verdict: Finding.Verdict) async {
        var node = MadeUpNode()
        switch lack {
        case "no kvm":
            node.openFailures["/dev/kvm"] = ENOENT
            node.files["/dev/kvm"] = nil
        case "kvm locked": node.openFailures["/dev/kvm"] = EACCES
        case "kvm wrong group": node.files["/dev/kvm"] = FileStatus(mode: 0o600, group: "root")
        case "no vsock": node.programs.remove("swiftlet-vsockd")
        case "no streamd": node.programs.remove("swiftlet-streamd")
        case "no tun": node.openFailures["/dev/net/tun"] = ENOENT
        case "no cgroups": node.layout = nil
        case "no memory controller": node.texts["/sys/fs/cgroup/cgroup.controllers"] = "cpuset cpu io"
        case "full": node.free = 900_000_000
        case "nearly full": node.free = 4_000_000_000
        case "no libvirt": node.sockets = []
        case "virtlogd wanted": node.texts["/etc/libvirt/qemu.conf"] = "# stdio_handler = \"file\"\n"
        case "no qemu": node.programs.remove("qemu-system-x86_64")
        case "old qemu": node.qemuVersion = "QEMU emulator version 5.2.0"
        case "broken qemu": node.qemuVersion = nil
        case "no guest": node.directories["/usr/lib/swiftlet"] = nil
        case "no initramfs": node.directories["/usr/lib/swiftlet"] = ["vmlinuz"]
        case "no mke2fs": node.programs.remove("mke2fs")
        case "no plug-ins": node.directories["/usr/lib/cni"] = nil
        case "no network": node.directories["/etc/cni/net.d"] = ["README"]
        case "bad network": node.texts["/etc/cni/net.d/10-pods.conflist"] = "{"
        case "plug-in missing": node.directories["/usr/lib/cni"] = ["bridge"]
        case "no diskinfo": node.programs.remove("swiftlet-diskinfo")
        case "no qemu-img": node.programs.remove("qemu-img")
        case "no prlimit": node.programs.remove("prlimit")
        case "no OVMF": node.files["/usr/share/OVMF/OVMF_VARS_4M.fd"] = nil
        case "no swtpm": node.files["/usr/bin/swtpm"] = nil
        case "no virtiofsd": node.files["/usr/lib/qemu/virtiofsd"] = nil
        case "no probe": node.programs.remove("swiftlet-virgl-probe")
        case "no render node": node.files["/dev/dri/renderD128"] = nil
        case "a driver that fails": node.virglFails = true
        case "memory for disks": node.fileSystemType = "tmpfs"
        case "nfs": node.fileSystemType = "nfs"
        case "no file system": node.fileSystemType = nil
        case "no conmon": node.programs.remove("conmon")
        case "no pause": node.programs.remove("swiftlet-pause")
        case "no runc": node.programs.remove("runc")
        case "crun and hybrid groups":
            node.programs.remove("runc")
            node.programs.insert("crun")
            node.layout = .hybrid
        default: Issue.record("unknown lack \(lack)")
        }
        let troubles = await node.all().filter { $0.verdict != .ok }
        #expect(troubles.map(\.check) == [check])
        #expect(troubles.first?.verdict == verdict)
        #expect(troubles.first?.advice.isEmpty == false)
    }

    @Test func aFileSystemIsToldByItsTypeAlsoOfADirectoryThatIsNotThereYet() {
        // Its magic number is in magic.h of the kernel.
        #expect(ThisNode().fileSystem("/proc/no/such/directory") == "0x9fa0")
        #expect(ThisNode().fileSystem("/") != nil)
    }

    @Test func whereThingsAreIsReadAsSwiftletdReadsIt() async {
        var node = MadeUpNode()
        #expect(await DaemonConfiguration.read(nil, on: node).finding.verdict == .fail)
        node.programs.insert("swiftletd")
        node.configuration.output = """
            {"endpoint": "unix:///run/other.sock", "root": "/data", "machine": {"kernel": "/k", "initramfs": "/i", "libvirt": "embed"},
            "network": {"cni_config_dir": "/net.d", "cni_plugin_dirs": ["/plugins"]}}
            """
        let (finding, configuration) = await DaemonConfiguration.read("/etc/other.toml", on: node)
        #expect(finding.verdict == .ok && configuration?.root == "/data" && configuration?.network.pluginDirectories == ["/plugins"])
        #expect(configuration?.endpoint == "unix:///run/other.sock" && configuration?.machine.kernel == "/k")
        node.configuration = ProgramEnd(succeeded: false, output: "", errors: "swiftletd: configuration /c: no key rot\n")
        let broken = await DaemonConfiguration.read(nil, on: node)
        #expect(broken.finding.verdict == .fail && broken.finding.found.contains("no key rot") && broken.configuration == nil)
    }

    @Test func theKernelsVsockAloneServesOnlyWhoAsksForIt() {
        var node = MadeUpNode()
        node.programs.remove("swiftlet-vsockd")
        node.files["/dev/vhost-vsock"] = FileStatus(mode: 0o600, group: "root")
        #expect(MachineChecks.vsock(node).verdict == .warn)
    }

    @Test func theDriverLibraryServesWhereNoDaemonRuns() {
        var node = MadeUpNode()
        node.sockets = []
        node.files["/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so"] = FileStatus(mode: 0o644, group: "root")
        #expect(HypervisorChecks.libvirt(node).verdict == .ok)
    }

    @Test func theDaemonsConditionsAndPathsAreTaken() {
        let status = CRIStatusResponse.with {
            $0.status.conditions = [
                .with {
                    $0.type = "RuntimeReady"
                    $0.status = true
                },
                .with {
                    $0.type = "NetworkReady"
                    $0.reason = "NoConfiguration"
                    $0.message = "nothing in /etc/cni/net.d"
                },
            ]
            $0.info = ["config": #"{"kernel": "/k/vmlinuz", "initramfs": "/k/initrd", "poolSize": 2}"#]
        }
        let report = DaemonChecks.report(.with { $0.runtimeName = "swiftlet" }, status, endpoint: "unix:///x")
        #expect(report.findings.map(\.verdict) == [.ok, .ok, .fail])
        #expect(report.findings.last?.found == "NoConfiguration: nothing in /etc/cni/net.d")
        #expect(report.kernel == "/k/vmlinuz")
        #expect(report.initramfs == "/k/initrd")
    }

    @Test func theDaemonsPoolIsToldByItsShapes() {
        let status = CRIStatusResponse.with {
            $0.info = [
                "swiftlet": #"""
                {"root": "/r", "pools": {"microvm": {"size": 3, "waiting": 2, "hits": 7, "misses": 0, "failures": 0, "shapes": [
                  {"memoryBytes": 268435456, "vcpus": 1, "size": 2, "waiting": 2, "hits": 7},
                  {"memoryBytes": 536870912, "vcpus": 2, "size": 1, "waiting": 0, "hits": 0, "obstacle": "no memory"}]}}}
                """#
            ]
        }
        let findings = DaemonChecks.report(.with { $0.runtimeName = "swiftlet" }, status, endpoint: "unix:///x").findings.dropFirst()
        #expect(findings.map(\.verdict) == [.ok, .warn])
        #expect(
            findings.map(\.found) == [
                "microvm: 2 of 2 machines of 256 MiB and 1 vCPU wait; 7 pods got one",
                "microvm: 0 of 1 machines of 512 MiB and 2 vCPUs wait; 0 pods got one; no memory",
            ])
    }

    @Test func thisMachineCanBeLookedAt() async throws {
        let node = ThisNode()
        #expect(node.openFailure("/dev/null") == nil)
        #expect(node.openFailure("/dev/none") == ENOENT)
        #expect(node.text("/proc/self/comm")?.isEmpty == false)
        #expect(node.entries("/proc/self")?.contains("comm") == true)
        #expect(try #require(node.space("/var/lib/not/there/yet")).total > 0)
        let shell = try #require(node.program("sh"))
        #expect(await node.output(shell, ["-c", "echo yes"]) == "yes\n")
        #expect(await node.output(shell, ["-c", "exit 3"]) == nil)
        #expect(node.connectFailure("/nonexistent.sock") == "No such file or directory")
        #expect(node.status("/dev/null")?.mode == 0o666)
    }
}

import CRI
import Foundation
import GRPC
import Linux
import StreamFakes
import Support
import Testing

/// VM pods whose root disk is on a volume and outlives them.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(15)), .serialized, .node("root"))
struct PersistentRootTests {
    private func node() async throws -> Node {
        let node = try SystemTests.node()
        try await node.loadSmallVM()
        return node
    }

    /// That all processes of a control group have had, in whatever unit.
    private static func processorTime(inGroup name: String, below parent: String) throws -> UInt64 {
        let group = try ProcessCgroup(parent: parent, name: name, on: Cgroups.detect())
        let texts = group.directories.flatMap { directory in
            ["cpuacct.usage", "cpu.stat"].compactMap { KernelFile.text("\(directory.path)/\($0)") }
        }
        return texts.flatMap { $0.split(separator: "\n") }.compactMap { line in
            UInt64(line.hasPrefix("usage_usec ") ? line.dropFirst("usage_usec ".count) : line)
        }.max() ?? 0
    }

    @Test func aBlockVolumeIsWrittenOnceAndBootsWithWhatAnEarlierPodWrote() async throws {
        let node = try await node()
        let before = try await Footprint.now(node)
        try await LoopVolume.with(node, bytes: 96 << 20) { volume in
            let uuid = UUID().uuidString
            let parent = "/swiftlet-test-\(getpid())/podroot"
            let first = try await node.bootedVM("first", volume.device) { $0.linux.cgroupParent = parent }
            // The pod's limits held for the copy.
            #expect(try Self.processorTime(inGroup: "\(first.pod)-copy", below: parent) > 0)
            _ = try await node.guest(first.container, "echo \(uuid) >/root/kept; sync")
            #expect(try await node.guest(first.container, "cat /sys/class/block/sda/size") == "\(96 << 11)")
            let other = try await node.runVMPod("other")
            let refused = await refusal { _ = try await node.createVM(in: other, "other") { volume.device.isRoot(of: &$0) } }
            #expect(refused?.code == .failedPrecondition && refused?.message.contains(first.pod) == true, "\(String(describing: refused))")
            try await node.removePod(other)
            try await node.removePod(first.pod)

            // Grown meanwhile, as a CSI driver does.
            try await volume.grow(to: 128 << 20)
            let second = try await node.bootedVM("second", volume.device)
            #expect(try await node.guest(second.container, "cat /root/kept") == uuid)
            #expect(try await node.guest(second.container, "cat /sys/class/block/sda/size") == "\(128 << 11)")
            try await node.removePod(second.pod)

            let third = try await node.bootedVM("third", volume.device) {
                $0.annotations = ["swiftlet/persistent-root-overwrite": "true"]
            }
            #expect(try await node.guest(third.container, "cat /root/kept || echo gone") == "gone")
            try await node.removePod(third.pod)
        }
        try await before.expectNothingAdded(node)
    }

    @Test func aFileInAVolumeIsTheRootDiskAndGoesBackToItsVolume() async throws {
        let node = try await node()
        let before = try await Footprint.now(node)
        let volume = "\(node.environment.scratch)/volume-\(UUID().uuidString.prefix(8))"
        // As for kubelets: nobody but root gets there by the path.
        try FileManager.default.createDirectory(
            atPath: "\(volume)/pvc", withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        defer { try? FileManager.default.removeItem(atPath: volume) }
        chown("\(volume)/pvc", 0, 2345)
        func mount(_ config: inout CRIContainerConfig) {
            config.mounts = [
                .with {
                    $0.hostPath = "\(volume)/pvc"
                    $0.containerPath = "/disk"
                }
            ]
        }
        func annotations(_ more: [String: String]) -> (inout CRIPodSandboxConfig) -> Void {
            { $0.annotations = more.merging(["swiftlet/root-volume": "/disk"]) { $1 } }
        }
        func owner(_ name: String) throws -> [UInt32] {
            var status = stat()
            try #require(stat("\(volume)/pvc/\(name)", &status) == 0)
            return [status.st_uid, status.st_gid, status.st_mode & 0o777]
        }
        let uuid = UUID().uuidString
        let first = try await node.bootedVM("file-first", nil, annotations([:]), container: mount)
        _ = try await node.guest(first.container, "echo \(uuid) >/root/kept; sync")
        #expect(try await node.guest(first.container, "ls /disk 2>/dev/null || echo none") == "none")
        #expect(try owner("disk.img")[0] > 2_000_000_000)
        // The daemon dies with the disk lent, and its successor gives it back.
        await node.kill()
        try await node.launch()
        _ = try await node.cri.call(
            RuntimeRPC.stopContainer,
            .with {
                $0.containerID = first.container
                $0.timeout = 60
            })
        #expect(try await node.status(of: first.container).exitCode == 0)
        try await eventually("the disk is given back at the machine's end") { try owner("disk.img") == [0, 2345, 0o660] }
        try await eventually("and bound nowhere") { !(try MountedPaths.table().contains("root.img")) }
        try await node.removePod(first.pod)

        let second = try await node.bootedVM("file-second", nil, annotations(["swiftlet/root-size": "128Mi"]), container: mount)
        #expect(try await node.guest(second.container, "cat /root/kept") == uuid)
        #expect(try await node.guest(second.container, "cat /sys/class/block/sda/size") == "\(128 << 11)")
        try await node.removePod(second.pod)
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(volume)/pvc") == ["disk.img"])

        // A pod that has the volume as files puts a link in the disk's place.
        try FileManager.default.moveItem(atPath: "\(volume)/pvc/disk.img", toPath: "\(volume)/real.img")
        symlink("\(volume)/real.img", "\(volume)/pvc/disk.img")
        let pod = try await node.runVMPod("link", annotations([:]))
        let link = await refusal { _ = try await node.createVM(in: pod, "link", mount) }
        #expect(link?.code == .failedPrecondition && link?.message.contains("symbolic link") == true, "\(String(describing: link))")
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
    }

    /// UEFI counts its boots in its variables (MTC), and begins with 1 where it finds none.
    private static func boots(_ variables: Data) -> UInt32? {
        // AUTHENTICATED_VARIABLE_HEADER, 60 bytes, with VAR_ADDED (0x3F) as its third; the name, and four bytes of data.
        let name = Data("MTC\0".utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] })
        var rest = variables.startIndex..<variables.endIndex
        while let place = variables.range(of: name, in: rest) {
            let data = variables[place.upperBound...].prefix(4)
            if place.lowerBound >= 60, variables[place.lowerBound - 58] == 0x3F, data.count == 4 {
                return data.reversed().reduce(0) { $0 << 8 | UInt32($1) }
            }
            rest = place.upperBound..<variables.endIndex
        }
        return nil
    }

    /// TPM2_ReadClock, whose answer has the number of resets behind ten bytes of header and two times of eight.
    private static let resets = """
        exec 3<>/dev/tpm0
        printf '\\200\\001\\000\\000\\000\\012\\000\\000\\001\\201' >&3
        dd bs=64 count=1 <&3 2>/dev/null | hexdump -v -e '1/1 "%02x"' | cut -c 53-60
        """

    @Test func theFirmwaresVariablesAndTheTPMAreKeptBesideABlockVolume() async throws {
        let node = try await node()
        let before = try await Footprint.now(node)
        let directory = "\(node.environment.scratch)/volume-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let files = ["nvram.fd", "tpm.state"].map { URL(filePath: "\(directory)/\($0)") }
        var resets: [Int] = []
        try await LoopVolume.with(node, bytes: 96 << 20) { volume in
            for boot in UInt32(1)...2 {
                let vm = try await node.bootedVM(
                    "state\(boot)", volume.device,
                    { $0.annotations = ["swiftlet/state-volume": "/state", "swiftlet/firmware": "uefi", "swiftlet/tpm": "true"] }
                ) {
                    $0.linux.resources.memoryLimitInBytes = 256 << 20
                    $0.mounts = [
                        .with {
                            $0.hostPath = directory
                            $0.containerPath = "/state"
                        }
                    ]
                }
                #expect(try await node.guest(vm.container, "ls -d /sys/firmware/efi") == "/sys/firmware/efi")
                resets.append(try #require(Int(try await node.guest(vm.container, Self.resets), radix: 16)))
                let other = try await node.runVMPod("other\(boot)") {
                    $0.annotations = ["swiftlet/state-volume": "/state", "swiftlet/firmware": "uefi"]
                }
                let refused = await refusal {
                    _ = try await node.createVM(in: other, "other\(boot)") {
                        $0.mounts = [
                            .with {
                                $0.hostPath = directory
                                $0.containerPath = "/state"
                            }
                        ]
                        $0.linux.resources.memoryLimitInBytes = 256 << 20
                    }
                }
                #expect(refused?.code == .failedPrecondition && refused?.message.contains(vm.pod) == true, "\(String(describing: refused))")
                for pod in [other, vm.pod] { try await node.removePod(pod) }
                #expect(Self.boots(try Data(contentsOf: files[0])) == boot)
                for file in files {
                    var status = stat()
                    #expect(stat(file.path, &status) == 0 && status.st_uid == 0 && status.st_size > 0, "\(file)")
                }
            }
        }
        #expect(resets.count == 2 && resets[1] == resets[0] + 1, "\(resets)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory).count == 2)
        try await before.expectNothingAdded(node)
    }

    /// A raw device beside a data disk: at its path, written to, and larger when it has grown.
    @Test func aBlockVolumeIsADiskThatGrowsWhileTheGuestRuns() async throws {
        let node = try await node()
        try await LoopVolume.with(node, bytes: 16 << 20) { volume in
            let vm = try await node.bootedVM(
                "device", nil, { $0.annotations = ["swiftlet/data-volumes": "[{name: extra, size: 64M, devicePath: /dev/extra}]"] }
            ) {
                $0.devices = [
                    .with {
                        $0.hostPath = volume.device
                        $0.containerPath = "/dev/testpvc"
                        $0.permissions = "mrw"
                    }
                ]
            }
            #expect(
                try await node.guest(vm.container, "cat /sys/class/block/$(basename $(readlink -f /dev/testpvc))/size") == "\(16 << 11)")
            #expect(try await node.guest(vm.container, "test -b /dev/extra && echo there") == "there")
            _ = try await node.guest(vm.container, "echo written >/dev/testpvc; sync")
            let written = try FileHandle(forReadingFrom: URL(filePath: volume.device)).read(upToCount: 7)
            #expect(written == Data("written".utf8))
            try await volume.grow(to: 24 << 20)
            try await eventually("the guest sees it", within: .seconds(30)) {
                try await node.guest(vm.container, "cat /sys/class/block/$(basename $(readlink -f /dev/testpvc))/size") == "\(24 << 11)"
            }
            try await node.removePod(vm.pod)
        }
    }

    @Test func memoryFollowsTheLimitWhileTheGuestRunsAndAcrossARestart() async throws {
        let node = try await node()
        let vm = try await node.bootedVM("resize", nil, { $0.annotations = ["swiftlet/memory-max": "512Mi"] }) {
            $0.linux.resources.memoryLimitInBytes = 256 << 20
        }
        func mebibytes(_ line: String = "MemTotal") async throws -> Int {
            let answer = try await node.guest(vm.container, "grep \(line): /proc/meminfo | tr -dc 0-9")
            return (Int(answer) ?? 0) >> 10
        }
        func limit(_ change: (inout CRILinuxContainerResources) -> Void) async throws {
            let resources = CRILinuxContainerResources.with(change)
            _ = try await node.cri.call(
                RuntimeRPC.updateContainerResources,
                .with {
                    $0.containerID = vm.container
                    $0.linux = resources
                })
        }
        let (first, available) = (try await mebibytes(), try await mebibytes("MemAvailable"))
        try await limit { $0.memoryLimitInBytes = 192 << 20 }
        // A guest that may take it back counts it as its own still.
        let less = try await mebibytes("MemAvailable")
        #expect((available - 84...available - 44).contains(less), "\(available) \(less)")
        #expect(try await node.status(of: vm.container).resources.linux.memoryLimitInBytes == 192 << 20)
        await node.kill()
        try await node.launch()
        #expect(try await node.status(of: vm.container).resources.linux.memoryLimitInBytes == 192 << 20)
        try await limit { $0.memoryLimitInBytes = 384 << 20 }
        try await eventually("the guest uses it", within: .seconds(20)) { try await mebibytes() > first + 100 }
        #expect(try await node.status(of: vm.container).resources.linux.memoryLimitInBytes == 384 << 20)
        let tooMuch = await refusal { try await limit { $0.memoryLimitInBytes = 1 << 30 } }
        #expect(tooMuch?.code == .failedPrecondition && tooMuch?.message.contains("memory-max") == true, "\(String(describing: tooMuch))")
        let lower = await refusal { try await limit { $0.memoryLimitInBytes = 256 << 20 } }
        #expect(lower?.code == .failedPrecondition, "\(String(describing: lower))")
        // An emulated machine has its vCPUs from its start, and less time is the control groups' to give.
        let vcpus = await refusal {
            try await limit {
                $0.cpuPeriod = 100_000
                $0.cpuQuota = 200_000
            }
        }
        #expect(vcpus == nil || vcpus?.code == .failedPrecondition, "\(String(describing: vcpus))")
        try await limit {
            $0.cpuPeriod = 100_000
            $0.cpuQuota = 50_000
        }
        #expect(try await node.status(of: vm.container).resources.linux.cpuQuota == 50_000)
        try await node.removePod(vm.pod)
    }

    @Test func aVolumeThatIsTooSmallOrHoldsOtherThingsIsRefused() async throws {
        let node = try await node()
        let pod = try await node.runVMPod("refused")
        try await LoopVolume.with(node, bytes: 8 << 20) { volume in
            let small = await refusal { _ = try await node.createVM(in: pod, "small") { volume.device.isRoot(of: &$0) } }
            #expect(small?.code == .failedPrecondition, "\(String(describing: small))")
            for size in ["8388608", "62914560"] { #expect(small?.message.contains(size) == true, "\(String(describing: small))") }
            try await Spawn("/sbin/mke2fs", ["-q", "-F", volume.device]).check()
            let foreign = await refusal { _ = try await node.createVM(in: pod, "foreign") { volume.device.isRoot(of: &$0) } }
            #expect(foreign?.code == .failedPrecondition && foreign?.message.contains("persistent-root-overwrite") == true)
            #expect(try await Spawn("/sbin/e2fsck", ["-fn", volume.device]).run().succeeded)
        }
        try await node.removePod(pod)
    }
}

/// A block volume as the kubelet passes one.
struct LoopVolume {
    let device: String
    private let file: String

    static func with(_ node: Node, bytes: Int, _ body: (LoopVolume) async throws -> Void) async throws {
        // Beside the node's directories: it is no part of what a pod could leave.
        let file = "\(node.environment.scratch)/volume-\(UUID().uuidString.prefix(8))"
        FileManager.default.createFile(atPath: file, contents: nil)
        truncate(file, off_t(bytes))
        defer { unlink(file) }
        let device = try await Spawn("/sbin/losetup", ["--show", "-f", file]).check().outputText
            .trimmingCharacters(in: .whitespacesAndNewlines)
        do {
            try await body(LoopVolume(device: device, file: file))
        } catch {
            _ = try? await Spawn("/sbin/losetup", ["-d", device]).run()
            throw error
        }
        try await Spawn("/sbin/losetup", ["-d", device]).check()
    }

    func grow(to bytes: Int) async throws {
        truncate(file, off_t(bytes))
        try await Spawn("/sbin/losetup", ["-c", device]).check()
    }
}

extension String {
    /// A device's path: the container has it as its root disk.
    func isRoot(of config: inout CRIContainerConfig) {
        config.devices = [
            .with {
                $0.hostPath = self
                $0.containerPath = "/"
                $0.permissions = "mrw"
            }
        ]
    }
}

extension Node {
    /// A pod with a container of the same name, whose guest is up.
    func bootedVM(
        _ name: String, _ device: String? = nil, _ change: (inout CRIPodSandboxConfig) -> Void = { _ in },
        container: (inout CRIContainerConfig) -> Void = { _ in }
    ) async throws -> (pod: String, container: String) {
        let pod = try await runVMPod(name, change)
        let id = try await createVM(in: pod, name) {
            device?.isRoot(of: &$0)
            container(&$0)
        }
        try await start(id)
        try await eventually("the guest says that it is up", within: .seconds(120)) {
            (try? logText("\(name).log"))?.contains(SmallVM.ready) == true
        }
        return (pod, id)
    }

    /// What a command says in the guest.
    func guest(_ container: String, _ command: String) async throws -> String {
        let answer = try await cri.call(
            RuntimeRPC.execSync,
            .with {
                $0.containerID = container
                $0.cmd = ["/bin/sh", "-c", command]
                $0.timeout = 30
            })
        #expect(answer.exitCode == 0, "\(command): \(String(decoding: answer.stderr, as: UTF8.self))")
        return String(decoding: answer.stdout, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }
}

import CRI
import Foundation
import GRPC
import Glibc
import Linux
import Support
import Testing

/// Guests of the handler `vm` that do what a tenant may try, with the small VM of images/samples.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(15)), .serialized, .node("hostvm"))
struct HostileVMTests {
    private func node() async throws -> Node {
        let node = try SystemTests.node()
        try await node.loadSmallVM()
        return node
    }

    /// Bytes that a file takes on the disk.
    private static func taken(_ path: String) -> Int {
        var status = stat()
        return lstat(path, &status) == 0 ? Int(status.st_blocks) * 512 : 0
    }

    /// It floods its console, its agent says what no agent does, and it reboots for ever; its QEMU says something again and again.
    @Test func aGuestThatFloodsTalksNonsenseAndRebootsForEverHoldsNobodyUp() async throws {
        let node = try await node()
        let before = try await Footprint.now(node)
        let honest = try await node.runVMPod("honest")
        let neighbour = try await node.startVM(in: honest, "honest")
        // By the agent that the guest can put another in place of.
        let pod = try await node.runVMPod("hostile") { $0.annotations = ["swiftlet/agent": "none"] }
        let hostile = try await node.startVM(in: pod, "hostile")
        try await node.waitForBoot("honest")
        try await node.waitForBoot("hostile")
        let details = try await node.details(of: pod)
        let console = try #require(details["console"]?.string)

        // The console's file keeps what somebody may want to see, and the log has it all.
        _ = try await node.shell(hostile, "yes the flood has come >/dev/ttyS0 2>/dev/null </dev/null &")
        var size = 0
        try await eventually("the flood comes: \(size) bytes", within: .seconds(120)) {
            size = try FileManager.default.attributesOfItem(atPath: console)[.size] as? Int ?? 0
            return size > 3 << 20
        }
        #expect(Self.taken(console) < 2 << 20, "\(Self.taken(console)) of \(size) bytes are kept")
        let asked = ContinuousClock.now
        #expect(try await node.shell(neighbour, "echo here") == "here\n")
        #expect(.now - asked < .seconds(20))
        _ = try await node.shell(hostile, "killall yes")

        // libvirt's log of the machine, which is QEMU's standard error: opened to append, and bounded.
        let emulator = try await node.machine(of: pod)
        let log = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(emulator)/fd/2")
        #expect(log.hasPrefix("\(node.root)/libvirt/log/qemu/swiftlet-"))
        #expect(openFlags(emulator, "2").map { $0 & O_APPEND != 0 } == true)
        let words = try FileHandle(forWritingTo: URL(fileURLWithPath: log))
        try words.seekToEnd()
        try words.write(contentsOf: Data(repeating: UInt8(ascii: "w"), count: 4 << 20))
        try words.close()
        try await eventually("what QEMU said is cut", within: .seconds(30)) { Self.taken(log) < 1 << 20 }

        // From its next boot on.
        let nonsense = """
            (while :; do
            killall -9 qemu-ga
            case $((n = n + 1)) in
            *1|*4|*7) timeout 4 yes '{"return": {}}' ;;
            *2|*5|*8) tr '\\0' a </dev/zero | timeout 4 cat ;;
            *) timeout 4 cat /dev/urandom ;;
            esac >/dev/guest-agent 2>/dev/null
            done) </dev/null >/dev/null 2>&1 &
            (sleep 40; echo b >/proc/sysrq-trigger) </dev/null >/dev/null 2>&1 &
            """
        _ = try await node.shell(hostile, "cat >>/bin/rcS <<'END'\n\(nonsense)\nEND\nsync")
        _ = try? await node.exec(hostile, ["/bin/sh", "-c", "echo b >/proc/sysrq-trigger"], timeout: 3)
        func boots() throws -> Int { try node.logText("hostile.log").components(separatedBy: SmallVM.ready).count - 1 }
        try await eventually("it boots again", within: .seconds(60)) { try boots() >= 2 }
        for _ in 0..<4 {
            let began = ContinuousClock.now
            let refused = await refusal { _ = try await node.exec(hostile, ["/bin/true"], timeout: 4) }
            #expect(refused != nil && .now - began < .seconds(15), "\(String(describing: refused)) after \(ContinuousClock.now - began)")
            let answer = ContinuousClock.now
            #expect(try await node.shell(neighbour, "echo here") == "here\n")
            #expect(.now - answer < .seconds(20))
        }
        try await eventually("and again", within: .seconds(120)) { try boots() >= 3 }
        #expect(try await node.status(of: hostile).state == .containerRunning)
        let stopped = ContinuousClock.now
        try await node.stop(hostile, timeout: 3)
        #expect(.now - stopped < .seconds(30))
        for pod in [pod, honest] { try await node.removePod(pod) }
        #expect(!FileManager.default.fileExists(atPath: log))
        try await before.expectNothingAdded(node)
    }

    /// As a kubelet's garbage collection does, and an image without cloud-init, which asks for its addresses.
    @Test func anImageMayGoWhileItsMachineRunsAndNoCloudInitIsNeeded() async throws {
        let node = try await node()
        let pod = try await node.runVMPod("gone") { $0.annotations = ["swiftlet/seed": "none"] }
        let address = try await node.cri.call(RuntimeRPC.podSandboxStatus, .with { $0.podSandboxID = pod }).status.network.ip
        let container = try await node.startVM(in: pod, "gone")
        func disks() throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: node.images + "/layers").filter { $0.hasSuffix(".qcow2") }
        }
        _ = try await node.cri.call(ImageRPC.removeImage, .with { $0.image.image = VMTests.image })
        #expect(try await node.cri.call(ImageRPC.listImages, .init()).images.allSatisfy { !$0.repoTags.contains(VMTests.image) })
        try await node.waitForBoot("gone")
        #expect(try await node.shell(container, "ip -4 -o addr show eth0").contains("\(address)/"))
        #expect(try await node.shell(container, "ls /seed") == "")
        // All of the image is still there, and not only what was read at the boot.
        _ = try await node.shell(container, "echo 3 >/proc/sys/vm/drop_caches")
        #expect(try await node.exec(container, ["/bin/sh", "-c", "cat /bin/* /lib/*/* >/dev/null"]).exitCode == 0)
        #expect(try disks().count == 1)
        let refused = await refusal { _ = try await node.createVM(in: pod, "another") }
        #expect(refused?.code == .notFound && refused?.message.contains("pull it") == true, "\(String(describing: refused))")
        try await node.removePod(pod)
        try await eventually("the image's file goes with its last machine") {
            try disks().isEmpty
        }
    }

    /// By the i6300esb's registers: Debian's cloud kernel has no driver of it. Two stages of some two seconds.
    private static let watchdog = """
        for card in /sys/bus/pci/devices/*; do [ "$(cat $card/device)" = 0x25ab ] && break; done
        echo 1 >$card/enable
        base=$(($(cut -d ' ' -f 1 $card/resource | head -n 1)))
        for stage in 0 4; do
        devmem $((base + 12)) 16 0x80; devmem $((base + 12)) 16 0x86; devmem $((base + stage)) 32 2048
        done
        printf '\\000\\000' | dd of=$card/config bs=1 seek=96 conv=notrunc 2>/dev/null
        printf '\\002' | dd of=$card/config bs=1 seek=104 conv=notrunc 2>/dev/null
        """

    @Test func aMachineWithUEFIAndTPMIsEndedByItsWatchdogAndLeavesNothing() async throws {
        let node = try await node()
        let before = try await Footprint.now(node)
        let parent = "/swiftlet-test-\(getpid())/podfirmware"
        let pod = try await node.runVMPod("firmware") {
            $0.linux.cgroupParent = parent
            $0.annotations = ["swiftlet/firmware": "uefi", "swiftlet/tpm": "true", "swiftlet/watchdog": "poweroff"]
        }
        let container = try await node.startVM(in: pod, "firmware", memory: 256)
        try await node.waitForBoot("firmware", within: .seconds(180))
        #expect(try await node.shell(container, "ls -d /sys/firmware/efi") == "/sys/firmware/efi\n")
        #expect(try await node.shell(container, "cat /sys/class/tpm/tpm0/tpm_version_major") == "2\n")
        let emulator = try await node.machine(of: pod)
        let tpm = try #require(Self.processes { $0.contains("swtpm") && $0.contains(node.root) }.first)
        #expect(Self.user(of: tpm) == Self.user(of: emulator) && Self.user(of: tpm) != 0)
        for process in [tpm, emulator] {
            #expect(try String(contentsOfFile: "/proc/\(process)/cgroup", encoding: .utf8).contains("\(parent)/\(container)"))
        }
        _ = try await node.shell(container, Self.watchdog)
        let exit = try await node.exit(of: container, within: .seconds(60))
        #expect(exit.exitCode == 137 && exit.message.contains("watchdog"), "\(exit)")
        try await eventually("the TPM ends with its machine") { kill(tpm, 0) != 0 }
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
    }

    /// A master boot record that says one line on the serial port and halts for good.
    private static let loader: Data = {
        let line = Array("loader\r\n".utf8)
        // mov dx, 0x3f8; then mov al, LETTER; out dx, al each; cli; hlt; jmp back to it.
        let code: [UInt8] = [0xBA, 0xF8, 0x03] + line.flatMap { [0xB0, $0, 0xEE] as [UInt8] } + [0xFA, 0xF4, 0xEB, 0xFD]
        let record = code + [UInt8](repeating: 0, count: 510 - code.count) + [0x55, 0xAA]
        return Data(record) + Data(count: (1 << 20) - record.count)
    }()

    /// Guests without a driver of the power button: the first halts in its boot loader, the second's firmware boots what its memory does
    /// not hold.
    @Test func aGuestThatHaltsBeforeItsKernelRunsEndsWithinTheGracePeriod() async throws {
        let node = try await node()
        let before = try await Footprint.now(node)
        let (file, image) = ("\(node.root)/logs/loader.img", "swiftlet.test/loader:1")
        try Self.loader.write(to: URL(fileURLWithPath: file))
        _ = try await node.cri.call(OperatorRPC.loadImage, .with { ($0.path, $0.reference) = (file, image) })
        let pod = try await node.runVMPod("loader")
        let halted = try await node.createContainer(in: pod, "loader", [], image: image) {
            $0.linux.resources.memoryLimitInBytes = 64 << 20
        }
        try await node.start(halted)
        try await eventually("the loader runs", within: .seconds(60)) { (try? node.logText("loader.log"))?.contains("loader") == true }
        let unanswered = await refusal { _ = try await node.exec(halted, ["/bin/true"], timeout: 3) }
        #expect(unanswered != nil)
        var began = ContinuousClock.now
        try await node.stop(halted, timeout: 3)
        #expect(.now - began < .seconds(15), "\(ContinuousClock.now - began)")
        #expect(try await node.status(of: halted).exitCode == 137)

        let refused = await refusal {
            _ = try await node.createVM(in: pod, "little") {
                $0.annotations = ["swiftlet/firmware": "uefi"]
                $0.linux.resources.memoryLimitInBytes = 48 << 20
            }
        }
        #expect(
            refused?.code == .invalidArgument && refused?.message.contains("swiftlet/firmware") == true, "\(String(describing: refused))")
        let starved = try await node.startVM(in: pod, "starved", memory: 64) { $0.annotations = ["swiftlet/firmware": "uefi"] }
        try await eventually("the firmware has begun", within: .seconds(60)) { (try? node.logText("starved.log"))?.isEmpty == false }
        // Not in the middle of the firmware's own start.
        try await Task.sleep(for: .seconds(10))
        #expect(try await node.status(of: starved).state == .containerRunning)
        // The pod's end has the grace period of its own.
        began = ContinuousClock.now
        try await node.stopPod(pod)
        #expect(.now - began < .seconds(60), "\(ContinuousClock.now - began)")
        #expect(try await node.status(of: starved).exitCode == 137)
        try await node.removePod(pod)
        _ = try await node.cri.call(ImageRPC.removeImage, .with { $0.image.image = image })
        try FileManager.default.removeItem(atPath: file)
        try await before.expectNothingAdded(node)
    }

    private static func processes(_ matches: (String) -> Bool) -> [pid_t] {
        ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { pid_t($0) }.filter { pid in
            KernelFile.bytes("/proc/\(pid)/cmdline", limit: 1 << 16).map { matches(String(decoding: $0, as: UTF8.self)) } == true
        }
    }

    private static func user(of process: pid_t) -> uid_t? {
        var status = stat()
        return stat("/proc/\(process)", &status) == 0 ? status.st_uid : nil
    }

    /// The processes on the node without which a machine is of no use, through a restart of the daemon; and a state that is lost.
    @Test func aMachineThatItsVirtiofsdHasLeftEndsWithTheReasonAndPodsOfALostStateLeaveNothing() async throws {
        let node = try await node()
        let shared = "\(node.root)/logs/shared"
        try FileManager.default.createDirectory(atPath: shared, withIntermediateDirectories: true)
        try "old".write(toFile: "\(shared)/file", atomically: true, encoding: .utf8)
        let before = try await Footprint.now(node)
        let pod = try await node.runVMPod("files")
        func mounting(_ name: String, _ annotations: [String: String] = [:]) async throws -> String {
            try await node.startVM(in: pod, name) {
                $0.annotations = annotations
                $0.mounts = [
                    .with {
                        $0.hostPath = shared
                        $0.containerPath = "/mnt/shared"
                    }
                ]
            }
        }
        let container = try await mounting("files")
        try await node.waitForBoot("files")
        #expect(try await node.shell(container, "cat /mnt/shared/file") == "old")
        await node.kill()
        try await node.launch()
        try "new".write(toFile: "\(shared)/file", atomically: true, encoding: .utf8)
        try await eventually("the guest sees it") { try await node.shell(container, "cat /mnt/shared/file") == "new" }
        let daemons = Self.processes { $0.contains("virtiofsd") && $0.contains(node.run) }
        #expect(!daemons.isEmpty)
        for daemon in daemons { kill(daemon, SIGKILL) }
        let exit = try await node.exit(of: container, within: .seconds(60))
        #expect(exit.exitCode == 137 && exit.message.contains("virtiofsd, which serves the pod's mounts, has ended"), "\(exit)")
        #expect(try await node.podStatus(pod).status.state == .sandboxReady)
        let log = try String(contentsOfFile: node.daemonLog, encoding: .utf8)
        #expect(log.components(separatedBy: "machine is ended").count == 2)

        // The kubelet makes another, with a TPM this time; then the node forgets all.
        _ = try await mounting("again", ["swiftlet/tpm": "true"])
        #expect(!Self.processes { $0.contains("swtpm") && $0.contains(node.root) }.isEmpty)
        await node.kill()
        let state = node.root + "/state"
        for file in try FileManager.default.contentsOfDirectory(atPath: state) where file.hasPrefix("state.sqlite") {
            try FileManager.default.removeItem(atPath: "\(state)/\(file)")
        }
        try await node.launch()
        var left: [String] = []
        try await eventually("what no record lists is released: \(left); daemon: \(node.tail(node.daemonLog))", within: .seconds(60)) {
            left = try await Footprint.now(node).added(since: before)
            return left.isEmpty
        }
    }

    /// Refused by name before anything boots.
    @Test func userDataOfAHundredMegabytesIsRefused() async throws {
        let node = try await node()
        let large = "\(node.root)/logs/large"
        try FileManager.default.createDirectory(atPath: large, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: large) }
        try Data(repeating: UInt8(ascii: "#"), count: 100 << 20).write(to: URL(fileURLWithPath: "\(large)/user-data"))
        let before = try await Footprint.now(node)
        let pod = try await node.runVMPod("large") { $0.annotations = ["swiftlet/user-data-from": "/large/user-data"] }
        let refused = await refusal {
            _ = try await node.createVM(in: pod, "large") {
                $0.mounts = [
                    .with {
                        $0.hostPath = large
                        $0.containerPath = "/large"
                    }
                ]
            }
        }
        #expect(refused?.code == .invalidArgument && refused?.message.contains("user-data-from") == true, "\(String(describing: refused))")
        try await node.removePod(pod)
        let inline = await refusal {
            _ = try await node.runVMPod("inline") { $0.annotations = ["swiftlet/user-data": String(repeating: "#", count: 100 << 20)] }
        }
        #expect(inline != nil)
        #expect(try await node.cri.call(RuntimeRPC.listPodSandbox, .init()).items.isEmpty)
        try await before.expectNothingAdded(node)
    }
}

extension Node {
    /// A machine that was started and may still be booting.
    func startVM(
        in pod: String, _ name: String, memory: Int64 = 128, _ change: (inout CRIContainerConfig) -> Void = { _ in }
    ) async throws -> String {
        let container = try await createVM(in: pod, name) {
            $0.linux.resources.memoryLimitInBytes = memory << 20
            change(&$0)
        }
        try await start(container)
        return container
    }

    nonisolated func waitForBoot(_ name: String, within limit: Duration = .seconds(120)) async throws {
        try await eventually("the guest \(name) says that it is up", within: limit) {
            (try? logText("\(name).log"))?.contains(SmallVM.ready) == true
        }
    }
}

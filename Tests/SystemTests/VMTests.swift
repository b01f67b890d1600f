import CRI
import Errors
import Foundation
import GRPC
import Linux
import StreamFakes
import Support
import Testing

/// A pod that is a virtual machine, booted from a disk image: the handler `vm` with the small VM of images/samples.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(15)), .serialized, .node("vm"))
struct VMTests {
    static let image = "localhost/swiftlet/small-vm:latest"

    func nodeWithImage() async throws -> Node {
        let node = try SystemTests.node()
        try await node.loadSmallVM()
        return node
    }

    @Test func aDiskImageBootsAsAPodAndEndsWithItsPowerOff() async throws {
        let node = try await nodeWithImage()
        let before = try await Footprint.now(node)
        let pod = try await node.runVMPod("boot")
        let status = try await node.cri.call(RuntimeRPC.podSandboxStatus, .with { $0.podSandboxID = pod }).status
        #expect(status.state == .sandboxReady && status.runtimeHandler == "vm" && !status.network.ip.isEmpty)
        let container = try await node.createVM(in: pod, "machine")
        #expect(try await node.status(of: container).state == .containerCreated)
        try await node.start(container)
        try await eventually("the guest says that it is up", within: .seconds(90)) {
            (try? node.logText("machine.log"))?.contains(SmallVM.ready) == true
        }
        #expect(try await node.status(of: container).state == .containerRunning)
        // The power button, and the guest's own end within the grace period.
        _ = try await node.cri.call(
            RuntimeRPC.stopContainer,
            .with {
                $0.containerID = container
                $0.timeout = 60
            })
        let ended = try await node.status(of: container)
        #expect(ended.state == .containerExited && ended.exitCode == 0 && ended.reason == "Completed", "\(ended)")
        try await node.stopPod(pod)
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
    }

    @Test func aSecondContainerIsRefusedWhileTheMachineRunsAndTakenAfterItsEnd() async throws {
        let node = try await nodeWithImage()
        let pod = try await node.runVMPod("second")
        let first = try await node.createVM(in: pod, "first")
        try await node.start(first)
        let refused = await refusal { _ = try await node.createVM(in: pod, "second") }
        #expect(refused?.code == .failedPrecondition && refused?.message.contains(first) == true, "\(String(describing: refused))")
        _ = try await node.cri.call(RuntimeRPC.stopContainer, .with { $0.containerID = first })
        #expect(try await node.status(of: first).exitCode == 137)
        // As of a kubelet that was interrupted between creation and start.
        _ = try await node.createVM(in: pod, "interrupted")
        let second = try await node.createVM(in: pod, "second")
        try await node.start(second)
        try await eventually("the second machine is up", within: .seconds(90)) {
            (try? node.logText("second.log"))?.contains(SmallVM.ready) == true
        }
        try await node.removePod(pod)
    }

    /// One boot for all that a guest is told: by its seed, its devices and its pod's network.
    @Test func theGuestIsWhatItsPodAsksFor() async throws {
        let node = try await nodeWithImage()
        let before = try await Footprint.now(node)
        let shared = "\(node.root)/shared"
        try FileManager.default.createDirectory(atPath: shared, withIntermediateDirectories: true)
        try "from the node".write(toFile: "\(shared)/file", atomically: true, encoding: .utf8)
        let uuid = "77f29a0e-46af-4188-a6af-9ff8b8a65224"
        let pod = try await node.runVMPod("guest") {
            $0.annotations = [
                "VirtletCloudInitUserDataScript": "#!/bin/sh\necho ran >>/root/script\n", "VirtletVCPUCount": "2",
                "VirtletSystemUUID": uuid,
                "VirtletRootVolumeSize": "1Gi", "swiftlet/data-volumes": "[{name: extra, size: 64M}]",
            ]
        }
        let address = try await node.cri.call(RuntimeRPC.podSandboxStatus, .with { $0.podSandboxID = pod }).status.network.ip
        let container = try await node.createVM(in: pod, "guest") {
            $0.mounts = [
                .with {
                    $0.hostPath = shared
                    $0.containerPath = "/mnt/shared"
                }
            ]
        }
        try await node.start(container)
        try await eventually("the guest says that it is up", within: .seconds(120)) {
            (try? node.logText("guest.log"))?.contains(SmallVM.ready) == true
        }
        func guest(_ command: String) async throws -> String {
            let answer = try await node.cri.call(
                RuntimeRPC.execSync,
                .with {
                    $0.containerID = container
                    $0.cmd = ["/bin/sh", "-c", command]
                    $0.timeout = 30
                })
            #expect(answer.exitCode == 0, "\(command): \(String(decoding: answer.stderr, as: UTF8.self))")
            return String(decoding: answer.stdout, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        }
        #expect(try await guest("hostname") == "guest")
        #expect(try await guest("cat /root/script") == "ran")
        #expect(try await guest("cat /mnt/shared/file; echo from the guest >/mnt/shared/answer") == "from the node")
        #expect(try String(contentsOfFile: "\(shared)/answer", encoding: .utf8) == "from the guest\n")
        #expect(try await guest("ip -4 -o addr show eth0").contains("\(address)/"))
        #expect(try await guest("ip route").contains("default via"))
        #expect(try await guest("grep -c ^processor /proc/cpuinfo") == "2")
        #expect(try await guest("cat /sys/class/dmi/id/product_uuid").lowercased() == uuid)
        #expect(
            try await guest("cat /sys/class/block/$(basename $(readlink /dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_root))/size")
                == "\(1 << 21)", "sectors of the root disk")
        #expect(try await guest("ls /dev/disk/by-id").contains("extra"))
        let ping = try await Spawn("/bin/busybox", ["ping", "-c", "2", "-W", "5", address], deadline: .seconds(20)).run()
        #expect(ping.succeeded, "\(ping.outputText)")
        let missing = await refusal {
            _ = try await node.cri.call(
                RuntimeRPC.execSync,
                .with {
                    $0.containerID = container
                    $0.cmd = ["/no/such/program"]
                    $0.timeout = 30
                })
        }
        #expect(missing != nil)
        // Killed within the grace period, although the guest does not heed the power button.
        _ = try await guest("killall acpid; rm -r /etc/acpi; echo 1 >/proc/sys/kernel/sysrq")
        let stopped = ContinuousClock.now
        _ = try await node.cri.call(
            RuntimeRPC.stopContainer,
            .with {
                $0.containerID = container
                $0.timeout = 3
            })
        #expect(ContinuousClock.now - stopped < .seconds(30))
        #expect(try await node.status(of: container).exitCode == 137)
        try await node.removePod(pod)
        try FileManager.default.removeItem(atPath: shared)
        try await before.expectNothingAdded(node)
    }

    /// Typed at the console; a port of the guest's own network, which no agent opens.
    @Test func itsConsoleIsAttachedToAndItsPortsAreForwarded() async throws {
        let node = try await nodeWithImage()
        let pod = try await node.runVMPod("session")
        let container = try await node.createVM(in: pod, "session") {
            $0.stdin = true
            $0.tty = true
        }
        try await node.start(container)
        try await eventually("the guest says that it is up", within: .seconds(120)) {
            (try? node.logText("session.log"))?.contains(SmallVM.ready) == true
        }
        let program = node.environment.build + "/swiftlet"
        let terminal = try LocalTerminal("export SWIFTLET_ENDPOINT=\(node.endpoint); \(program) attach -i \(container)")
        // The console's last lines come first.
        try await terminal.shows(SmallVM.ready)
        // A shell that has just begun asks its terminal where the cursor is, and takes what is typed meanwhile for the answer.
        for _ in 0..<5 {
            try await terminal.type("echo sum $((20 + 22))\n")
            let heard: Void? = try? await eventually("it is heard", within: .seconds(10)) {
                try node.logText("session.log").contains("sum 42")
            }
            if heard != nil { break }
        }
        try await terminal.shows("sum 42")
        try await eventually("and the log has it") { try node.logText("session.log").contains("sum 42") }
        try await terminal.type("\u{10}\u{11}")
        _ = try await terminal.end()
        #expect(try await node.status(of: container).state == .containerRunning)

        _ = try await node.cri.call(
            RuntimeRPC.execSync,
            .with {
                $0.containerID = container
                $0.cmd = ["/bin/sh", "-c", "nc -ll -p 9100 -e /bin/cat </dev/null >/dev/null 2>&1 &"]
                $0.timeout = 30
            })
        let command = try RunningCommand(
            program, ["--endpoint", node.endpoint, "port-forward", pod, ":9100"], environment: [:],
            in: node.environment.scratch + "/home")
        defer { command.kill(SIGKILL) }
        let ports = try await command.forwardedPorts(1)
        var large = SplitMix(seed: 7)
        let bytes = (0..<(1 << 20)).map { _ in UInt8.random(in: 0...255, using: &large) }
        try await eventually("the guest answers: \(command.errors)", within: .seconds(30)) {
            try await TCPClient.exchange(ports[0].local, bytes) == bytes
        }
        try await node.removePod(pod)
    }

    @Test func wrongAnnotationsAreRefusedTogetherByName() async throws {
        let node = try await nodeWithImage()
        let refused = await refusal {
            _ = try await node.runVMPod("wrong") {
                $0.annotations = ["VirtletVCPUCount": "many", "swiftlet/firmware": "coreboot", "swiftlet/no-such": "1"]
            }
        }
        #expect(refused?.code == .invalidArgument)
        for name in ["VirtletVCPUCount", "swiftlet/firmware", "swiftlet/no-such"] {
            #expect(refused?.message.contains(name) == true, "\(String(describing: refused))")
        }
        #expect(try await node.cri.call(RuntimeRPC.listPodSandbox, .init()).items.isEmpty)
    }

    @Test func aRunningMachineOutlivesTheDaemonWithItsLogAndItsEnd() async throws {
        let node = try await nodeWithImage()
        let pod = try await node.runVMPod("restart")
        let container = try await node.createVM(in: pod, "machine")
        try await node.start(container)
        await node.kill()
        try await node.launch()
        try await eventually("the guest says that it is up", within: .seconds(90)) {
            (try? node.logText("machine.log"))?.contains(SmallVM.ready) == true
        }
        #expect(try await node.status(of: container).state == .containerRunning)
        _ = try await node.cri.call(
            RuntimeRPC.stopContainer,
            .with {
                $0.containerID = container
                $0.timeout = 60
            })
        let ended = try await node.status(of: container)
        let log = try node.logText("machine.log").suffix(400)
        #expect(ended.exitCode == 0, "\(ended.message); its log: \(log); \(node.tail(node.daemonLog))")
        try await node.removePod(pod)
    }

    @Test func imagesOfTheOtherKindAreRefusedWithTheHandlerToUse() async throws {
        let node = try await nodeWithImage()
        let machine = try await node.runVMPod("layers")
        let layers = await refusal { _ = try await node.createContainer(in: machine, "c", [], image: Node.image) }
        #expect(layers?.code == .invalidArgument && layers?.message.contains("microvm") == true, "\(String(describing: layers))")
        try await node.removePod(machine)
        let pod = try await node.runPod("disk")
        let disk = await refusal { _ = try await node.createContainer(in: pod, "c", ["/bin/true"], image: Self.image) }
        #expect(disk?.code == .invalidArgument && disk?.message.contains("handler is vm") == true, "\(String(describing: disk))")
        try await node.removePod(pod)
    }
}

/// The small VM's own words.
enum SmallVM {
    static let ready = " is ready, up "
}

extension Node {
    func runVMPod(_ name: String, _ change: (inout CRIPodSandboxConfig) -> Void = { _ in }) async throws -> String {
        let config = podConfig(name, change)
        return try await cri.call(
            RuntimeRPC.runPodSandbox,
            .with {
                $0.config = config
                $0.runtimeHandler = "vm"
            }
        ).podSandboxID
    }

    func createVM(in pod: String, _ name: String, _ change: (inout CRIContainerConfig) -> Void = { _ in }) async throws -> String {
        try await createContainer(in: pod, name, [], image: VMTests.image) {
            $0.linux.resources.memoryLimitInBytes = 128 << 20
            change(&$0)
        }
    }

    /// Takes the image in, once for all tests of the node.
    func loadSmallVM() async throws {
        let file = URL(fileURLWithPath: environment.guest).deletingLastPathComponent().appending(path: "samples/small-vm.qcow2").path
        _ = try await cri.call(
            OperatorRPC.loadImage,
            .with {
                $0.path = file
                $0.reference = VMTests.image
            })
    }

    nonisolated func logText(_ file: String) throws -> String { try String(contentsOfFile: "\(logs)/\(file)", encoding: .utf8) }
}

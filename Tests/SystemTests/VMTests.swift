import CRI
import Errors
import Foundation
import GRPC
import Linux
import Support
import Testing

/// A pod that is a virtual machine, booted from a disk image: the handler `vm` with the small VM of images/samples.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(15)), .serialized, .node("vm"))
struct VMTests {
    static let image = "localhost/swiftlet/small-vm:latest"

    private func node() async throws -> Node {
        let node = try SystemTests.node()
        try await node.loadSmallVM()
        return node
    }

    @Test func aDiskImageBootsAsAPodAndEndsWithItsPowerOff() async throws {
        let node = try await node()
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
        let node = try await node()
        let pod = try await node.runVMPod("second")
        let first = try await node.createVM(in: pod, "first")
        let refused = await refusal { _ = try await node.createVM(in: pod, "second") }
        #expect(refused?.code == .failedPrecondition && refused?.message.contains(first) == true, "\(String(describing: refused))")
        try await node.start(first)
        _ = try await node.cri.call(RuntimeRPC.stopContainer, .with { $0.containerID = first })
        #expect(try await node.status(of: first).exitCode == 137)
        let second = try await node.createVM(in: pod, "second")
        try await node.start(second)
        try await eventually("the second machine is up", within: .seconds(90)) {
            (try? node.logText("second.log"))?.contains(SmallVM.ready) == true
        }
        try await node.removePod(pod)
    }

    @Test func aRunningMachineOutlivesTheDaemonWithItsLogAndItsEnd() async throws {
        let node = try await node()
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
        #expect(try await node.status(of: container).exitCode == 0)
        try await node.removePod(pod)
    }

    @Test func imagesOfTheOtherKindAreRefusedWithTheHandlerToUse() async throws {
        let node = try await node()
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

import CRI
import Foundation
import Linux
import Support
import Testing

/// The manifests in examples/, as a kubelet hands them on. Those that need a Debian are booted by `DebianVMTests`.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(10)), .serialized, .node("examples"))
struct ExampleTests {
    /// Of images for which the test has none that small, the small one stands in: nothing is started.
    @Test func everyExampleIsTakenUpToItsStart() async throws {
        let node = try node()
        try await node.loadSmallVM()
        let volumes = try KubeletVolumes(node, objects: ["settings": ["colour": "blue"]])
        let before = try await Footprint.now(node)
        var taken: [String] = []
        for file in try FileManager.default.contentsOfDirectory(atPath: PodManifest.directory.path).sorted() {
            for pod in try PodManifest.examples(file) {
                let vm = try await node.createVM(pod, volumes, image: VMTests.image)
                #expect(try await node.status(of: vm.container).state == .containerCreated, "\(file)")
                try await node.removePod(vm.pod)
                taken.append(pod.name)
            }
        }
        #expect(taken.count > 10, "\(taken)")
        try await before.expectNothingAdded(node)
        try await volumes.remove()
    }

    /// All at once: three of them are a StatefulSet's.
    @Test func theExamplesOfTheSmallMachineDoWhatTheySay() async throws {
        let node = try node()
        let image = URL(fileURLWithPath: node.environment.guest).deletingLastPathComponent().appending(path: "samples/small-vm.qcow2").path
        _ = try await node.cri.call(
            OperatorRPC.loadImage,
            .with {
                $0.path = image
                $0.reference = "localhost/small-vm:1"
            })
        let volumes = try KubeletVolumes(node)
        var machines: [String: VMOfPod] = [:]
        for file in ["small-vm.yaml", "script.yaml", "deployment.yaml", "statefulset.yaml"] {
            for pod in try PodManifest.examples(file) {
                let vm = try await node.createVM(pod, volumes)
                try await node.start(vm.container)
                machines[vm.name] = vm
            }
        }
        #expect(Set(machines.keys) == ["small-vm", "script", "small-vm-0", "node-0", "node-1", "node-2"])
        for vm in machines.values { try await answers(vm, node) }
        let script = try #require(machines["script"])
        #expect(try await node.shell(script.container, "cat /root/hello; grep -c ^processor /proc/cpuinfo") == "hello from the script\n2\n")
        // As a kubelet's readiness probe, and as each member to the next.
        for number in 0...2 {
            let (vm, next) = (try #require(machines["node-\(number)"]), try #require(machines["node-\((number + 1) % 3)"]))
            let address = try await node.podStatus(next.pod).status.network.ip
            let answer = try await Spawn("/bin/busybox", ["nc", "-w", "10", address, "8080"]).run()
            #expect(answer.outputText == "\(next.name)\n", "\(answer)")
            #expect(try await node.shell(vm.container, "nc -w 10 \(address) 8080") == "\(next.name)\n")
        }
        // What a Deployment makes of a pod that was deleted.
        let removed = machines.removeValue(forKey: "small-vm-0")
        let old = try #require(removed)
        try await node.removePod(old.pod)
        let again = try await node.createVM(try .example("deployment.yaml"), volumes)
        try await node.start(again.container)
        #expect(again.pod != old.pod)
        try await answers(again, node)
        for vm in Array(machines.values) + [again] { try await node.removePod(vm.pod) }
        try await volumes.remove()
    }

    /// Waits for the guest's agent, which comes last.
    private func answers(_ vm: VMOfPod, _ node: Node) async throws {
        try await eventually("\(vm.name) is up: \(node.tail("\(node.logs)/\(vm.name).log"))", within: .seconds(120)) {
            await refusal { _ = try await node.exec(vm.container, ["/bin/true"]) } == nil
        }
    }
}

import CRI
import Foundation
import GRPC
import Support
import Testing

@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("img"))
struct RegistryImageTests {
    @Test func anImageFromARegistryRunsWithItsOwnConfiguration() async throws {
        let node = try node()
        let registry = try await TestRegistry.start()
        let image = try SampleImages.layered()
        try await registry.push(image, "team/app", tag: "v1")
        let reference = "\(registry.host)/team/app:v1"
        let id = try await node.cri.call(ImageRPC.pullImage, .with { $0.image.image = reference }).imageRef
        let status = try await node.cri.call(ImageRPC.imageStatus, .with { $0.image.image = reference }).image
        #expect(status.id == id && status.repoTags == [reference] && status.repoDigests.count == 1)
        let byDigest = try await node.cri.call(ImageRPC.pullImage, .with { $0.image.image = status.repoDigests[0] }).imageRef
        #expect(byDigest == id)

        let pod = try await node.runPod("app")
        let container = try await node.createContainer(in: pod, "app", [], image: reference)
        try await node.start(container)
        #expect(try await node.exit(of: container).exitCode == 0)
        let made = try await node.status(of: container)
        #expect(made.imageRef == status.repoDigests[0] && made.imageID == id)
        #expect(
            try node.log("app") == [
                "stdout F from the image", "stdout F /work", "stdout F 1000", "stdout F upper", "stdout F gone: yes",
                "stdout F opaque: new",
            ])
        try await checkStopSignal(node, pod, reference)
        try await checkUnknownUser(node, registry, pod)
        try await node.removePod(pod)

        _ = try await node.cri.call(ImageRPC.removeImage, .with { $0.image.image = reference })
        _ = try await node.cri.call(ImageRPC.removeImage, .with { $0.image.image = reference })
        #expect(try await node.cri.call(ImageRPC.imageStatus, .with { $0.image.image = reference }).hasImage == false)
        registry.stop()
    }

    @Test func layersMeanAboveEachOtherWhatTheyMeanUnpacked() async throws {
        let node = try node()
        let registry = try await TestRegistry.start()
        defer { registry.stop() }
        try await registry.push(try SampleImages.stacked(), "team/stacked", tag: "v1")
        try await registry.push(try SampleImages.foreign(), "team/foreign", tag: "v1")
        let (stacked, foreign) = ("\(registry.host)/team/stacked:v1", "\(registry.host)/team/foreign:v1")
        for image in [stacked, foreign] { _ = try await node.cri.call(ImageRPC.pullImage, .with { $0.image.image = image }) }
        let pod = try await node.runPod("stacked")
        let container = try await node.createContainer(in: pod, "stacked", [], image: stacked) {
            $0.linux.securityContext.readonlyRootfs = true
        }
        try await node.start(container)
        #expect(try await node.exit(of: container).exitCode == 0)
        let lines = try node.log("stacked").filter { $0.hasPrefix("stdout F ") }.map { String($0.dropFirst("stdout F ".count)) }
        #expect(
            lines == [
                "/usr/bin 711 0", "/tmp 1777 0", "/home/worker 700 1000", "usr/bin", "/run", "7", "note", "removed", "same", "read-only",
                "/data:", "new", "own", "", "/run/made:", "new",
            ])
        let look = try await node.runContainer(in: pod, "look", ["/bin/sleep", "600"]) {
            $0.mounts = [.image(foreign, "/models") { $0.imageSubPath = "models" }, .image(stacked, "/mnt")]
        }
        #expect(try await node.shell(look, "cat /models/weights /mnt/run/app/pid; readlink /mnt/bin") == "data\n7\nusr/bin\n")
        let refused = await #expect(throws: GRPCStatus.self) {
            try await node.createContainer(in: pod, "foreign", ["/x"], image: foreign)
        }
        #expect(refused?.code == .failedPrecondition && refused?.message.contains("s390x") == true, "\(String(describing: refused))")
        try await node.removePod(pod)
    }

    private func checkStopSignal(_ node: Node, _ pod: String, _ reference: String) async throws {
        let script = "trap 'echo usr1; exit 6' USR1; trap '' TERM; echo up; while :; do busybox sleep 0.1; done"
        let container = try await node.createContainer(in: pod, "signals", ["/bin/sh", "-c", script], image: reference)
        #expect(try await node.status(of: container).stopSignal == .sigusr1)
        try await node.start(container)
        try await node.waitForLog("signals")
        _ = try await node.cri.call(RuntimeRPC.stopContainer, .with { ($0.containerID, $0.timeout) = (container, 60) })
        #expect(try await node.status(of: container).exitCode == 6)
    }

    private func checkUnknownUser(_ node: Node, _ registry: TestRegistry, _ pod: String) async throws {
        for user in ["ghost", "worker:ghosts"] {
            try await registry.push(try SampleImages.layered(user: user), "team/ghost", tag: "v1")
            let reference = "\(registry.host)/team/ghost:v1"
            _ = try await node.cri.call(ImageRPC.pullImage, .with { $0.image.image = reference })
            let refused = await #expect(throws: GRPCStatus.self, "\(user)") {
                try await node.createContainer(in: pod, "ghost", ["/bin/true"], image: reference)
            }
            #expect(refused?.code == .invalidArgument && refused?.message.contains("ghost") == true, "\(String(describing: refused))")
        }
    }

    @Test func registriesThatFailAreToldApart() async throws {
        let node = try node()
        func status(_ reference: String) async -> GRPCStatus? {
            do {
                _ = try await node.cri.call(ImageRPC.pullImage, .with { $0.image.image = reference })
                return nil
            } catch {
                return error as? GRPCStatus
            }
        }
        let registry = try await TestRegistry.start()
        let absent = await status("\(registry.host)/no/such:image")
        #expect(absent?.code == .notFound)
        let host = registry.host
        registry.stop()
        let down = await status("\(host)/team/app:v1")
        #expect(down?.code == .unavailable && down?.message.contains("RegistryUnavailable") == true)
        let bad = await status("UPPER/Case:tag:tag")
        #expect(bad?.code == .invalidArgument)
        let usage = try await node.cri.call(ImageRPC.imageFsInfo, CRIImageFsInfoRequest()).imageFilesystems
        #expect(usage.first?.usedBytes.value ?? 0 > 0)
    }
}

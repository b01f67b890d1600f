import CRI
import Foundation
import GRPC
import Support
import Testing

@Suite(.enabled(if: systemTestsEnabled), .serialized, .node("img"))
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
        #expect(try await node.status(of: container).imageRef == id)
        #expect(
            try node.log("app") == [
                "stdout F from the image", "stdout F /work", "stdout F 1000", "stdout F upper", "stdout F gone: yes",
                "stdout F opaque: new",
            ])
        try await node.removePod(pod)

        _ = try await node.cri.call(ImageRPC.removeImage, .with { $0.image.image = reference })
        _ = try await node.cri.call(ImageRPC.removeImage, .with { $0.image.image = reference })
        #expect(try await node.cri.call(ImageRPC.imageStatus, .with { $0.image.image = reference }).hasImage == false)
        registry.stop()
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

import AgentProtocol
import Errors
import Foundation
import Testing

@testable import GuestAgent

/// Volumes that the guest brings itself.
@Suite struct ContainerVolumeTests {
    private let image = TestImage.plain

    private func memory(_ name: String, to destination: String, part: String = "") -> AgentMountSpec {
        .with {
            $0.type = AgentVolumeType.memory.rawValue
            $0.destination = destination
            $0.options = ["rbind", "rw"]
            $0.subPath = part
            $0.memory = .with {
                $0.name = name
                $0.size = 1 << 20
                $0.mode = 0o1777
                $0.uid = 7
                $0.gid = 8
            }
        }
    }

    @Test func aVolumeInMemoryIsOneForAllContainersAndItsPartsMeet() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var first = image.shell("stat -c '%a %u %g' /m /p; echo hello > /p/x; cat /m/a/b/x; umount /m 2>/dev/null; sleep 1000")
            first.mounts = [memory("one", to: "/m"), memory("one", to: "/p", part: "a/b"), memory("two", to: "/other")]
            try await probe.launch("a", first)
            try await probe.until("a", "grep", "-q", "hello", "/p/x")
            var second = image.shell("cat /v/x; ls /other; stat -c '%a %u %g' /v")
            second.mounts = [memory("one", to: "/v", part: "a/b"), memory("two", to: "/other")]
            #expect(try await probe.run(second, id: "b") == .init(code: 0, stdout: "hello\n1777 7 8\n", stderr: ""))
            try await probe.send("release", "a")
            // What the pod keeps is still there for the next container.
            #expect(try await probe.run(second, id: "c").stdout.hasPrefix("hello\n"))
        }
    }

    @Test(arguments: ["", "../x", "a/b", String(repeating: "a", count: 65)])
    func aVolumeInMemoryNeedsAName(name: String) async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("true")
            spec.mounts = [memory(name, to: "/m")]
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", spec) }
            #expect(error?.code == .invalidArgument)
            #expect(error?.message.contains("/m") == true)
        }
    }

    @Test func anImageIsMountedWholeOrInPartAndNothingStays() async throws {
        let image = try TestImage.extended(by: "mkdir -p data/sub; echo deep > data/sub/file; ln -s /etc data/out")
        try await ProbeClient.with(image) { (probe) async throws in
            let volume = { (destination: String, part: String) -> AgentMountSpec in
                .with {
                    $0.type = AgentVolumeType.image.rawValue
                    $0.destination = destination
                    $0.options = ["rbind", "rro"]
                    $0.subPath = part
                    $0.layers = image.spec("x").root.layers
                }
            }
            var spec = image.shell("cat /i/data/sub/file /s/file; touch /s/new 2>/dev/null || echo refused; ls /f")
            spec.mounts = [volume("/i", ""), volume("/s", "data/sub"), volume("/f", "data/sub/file")]
            #expect(try await probe.run(spec).stdout == "deep\ndeep\nrefused\n/f\n")
            spec.mounts = [volume("/i", "data/missing")]
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", spec) }
            #expect(error?.code == .notFound)
            #expect(error?.message.contains("ImageVolumeMountFailed") == true)
            try await probe.send("release", "c")
            // The pod's /dev/shm.
            #expect(try await probe.held().hasPrefix("mounts=1 containers=[] trash=[]"))
        }
    }

    @Test func aShareWithoutItsDeviceIsNamed() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("true")
            spec.shareTag = "swiftlet"
            spec.mounts = [.init(AgentVolumeType.share.rawValue, from: "c/0", to: "/s", ["rbind"])]
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", spec) }
            #expect(error?.message.contains("mount /s") == true)
        }
    }
}

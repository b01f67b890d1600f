import Errors
import Testing

@testable import MicroVMRuntime
@testable import Runtime

/// What a guest says of its disk, beside what the node counts.
@Suite struct ScratchFiguresTests {
    private static func figures(_ layers: [UInt64?]) -> SandboxFigures {
        .with { figures in
            figures.containers = layers.map { bytes in .with { $0.writableLayer = bytes.map { bytes in .with { $0.usedBytes = bytes } } } }
        }
    }

    private static func raised(_ layers: [UInt64?], to bytes: UInt64) -> [UInt64?] {
        var figures = figures(layers)
        figures.raiseWritableLayers(to: bytes)
        return figures.containers.map { $0.writableLayer?.usedBytes }
    }

    @Test func aGuestReportsNoLessThanItsDiskTakesOnTheNode() {
        #expect(Self.raised([10, 20], to: 30) == [10, 20])
        #expect(Self.raised([10, 20], to: 7) == [10, 20])
        #expect(Self.raised([nil, 5], to: 5) == [nil, 5])
        #expect(Self.raised([10, 30], to: 400) == [100, 300])
        #expect(Self.raised([0, nil], to: 100) == [50, 50])
        #expect(Self.raised([], to: 100) == [])
    }

    @Test func sizesAreKubernetesQuantitiesWithinTheRange() throws {
        var configuration = MicroVMConfiguration(
            kernel: "/k", initramfs: "/i", runDirectory: "/r", stateDirectory: "/s", vsockBackend: "/v", accelerator: .tcg,
            vsock: .vhostUser, users: try .test(), sharedUser: .test)
        func bytes(_ text: String) throws -> UInt64 {
            try ScratchQuota.bytes([ScratchQuota.annotation: text], configuration: configuration)
        }
        #expect(try ScratchQuota.bytes([:], configuration: configuration) == 10 << 30)
        let sizes: [(String, UInt64)] = [("64Mi", 64 << 20), ("10Gi", 10 << 30), ("1G", 953 << 20), ("70000000", 66 << 20)]
        for (text, size) in sizes { #expect(try bytes(text) == size, "\(text)") }
        for text in ["63Mi", "11Gi", "", "Gi", "1.5Gi", " 1Gi", "1gi", "-1Gi", "99999999999999999999Gi", "1Ei"] {
            let error = #expect(throws: SwiftletError.self, "\(text)") { try bytes(text) }
            #expect(error?.code == .invalidArgument && error?.message.contains("swiftlet/scratch-size") == true, "\(text)")
        }
        configuration.mostScratchSize = 20 << 30
        #expect(try bytes("11Gi") == 11 << 30)
        // The configuration's own minimum is above that.
        (configuration.scratchSize, configuration.mostScratchSize) = (32 << 20, 0)
        #expect(try bytes("32Mi") == 32 << 20)
        for text in ["64Mi", "31Mi", "0", "1"] {
            #expect(throws: SwiftletError.self, "\(text)") { try bytes(text) }
        }
    }
}

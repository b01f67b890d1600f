import CRI
import Errors
import Foundation
import Runtime
import Support
import Testing

@testable import CRIServer
@testable import Pods

/// What no client of good will sends.
@Suite struct MutatedRequestTests {
    private static func mapping() -> CRIIDMapping { .with { ($0.containerID, $0.hostID, $0.length) = (0, 65536, 65536) } }

    private static let sandbox = CRIPodSandboxConfig.with {
        $0.metadata = .with { ($0.name, $0.uid, $0.namespace, $0.attempt) = ("pod", "u", "default", 3) }
        $0.hostname = "host"
        $0.logDirectory = "/var/log/pods/x"
        $0.dnsConfig = .with { ($0.servers, $0.searches, $0.options) = (["1.1.1.1"], ["a.b"], ["ndots:5"]) }
        $0.portMappings = [.with { ($0.containerPort, $0.hostPort, $0.hostIp) = (80, 8080, "127.0.0.1") }]
        $0.labels = ["a": "b"]
        $0.linux.cgroupParent = "/kubepods/pod1"
        $0.linux.sysctls = ["net.ipv4.ip_forward": "1"]
        $0.linux.resources = .with { ($0.cpuShares, $0.cpuQuota, $0.cpuPeriod, $0.memoryLimitInBytes) = (2, 1000, 1000, 1 << 30) }
        $0.linux.overhead.memoryLimitInBytes = 1 << 28
        $0.linux.securityContext.runAsUser.value = 7
        $0.linux.securityContext.seccomp.profileType = .runtimeDefault
        $0.linux.securityContext.namespaceOptions.usernsOptions = .with { ($0.uids, $0.gids) = ([mapping()], [mapping()]) }
    }

    private static let container = CRIContainerConfig.with {
        $0.metadata = .with { ($0.name, $0.attempt) = ("c", 1) }
        $0.image.image = "localhost/x:1"
        ($0.command, $0.args, $0.workingDir, $0.logPath) = (["/bin/sh"], ["-c", "true"], "/work", "c/0.log")
        $0.envs = [.with { ($0.key, $0.value) = ("A", Data("b".utf8)) }]
        $0.mounts = [
            .with {
                ($0.containerPath, $0.hostPath, $0.readonly, $0.mountOptions) = ("/data", "/tmp", true, ["noexec"])
                ($0.uidMappings, $0.gidMappings) = ([mapping()], [mapping()])
            }
        ]
        $0.devices = [.with { ($0.hostPath, $0.containerPath, $0.permissions) = ("/dev/fuse", "/dev/fuse", "rwm") }]
        $0.stopSignal = .sigusr1
        $0.linux.resources = .with {
            ($0.cpuShares, $0.cpuQuota, $0.cpuPeriod, $0.oomScoreAdj) = (1024, 50_000, 100_000, -997)
            ($0.memoryLimitInBytes, $0.memorySwapLimitInBytes, $0.cpusetCpus) = (64 << 20, 128 << 20, "0-1")
            $0.unified = ["memory.high": "1"]
        }
        $0.linux.securityContext = .with {
            ($0.runAsUser.value, $0.runAsGroup.value, $0.supplementalGroups) = (1000, 50, [3000])
            $0.capabilities = .with { ($0.addCapabilities, $0.dropCapabilities) = (["NET_ADMIN"], ["ALL"]) }
            ($0.maskedPaths, $0.readonlyPaths) = (["/proc/kcore"], ["/proc/sys"])
            $0.seccomp = .with { ($0.profileType, $0.localhostRef) = (.localhost, "/p.json") }
        }
    }

    /// Another one in each run. To repeat a run, set MUTATION_SEED to what it has written.
    private static let seed = ProcessInfo.processInfo.environment["MUTATION_SEED"].flatMap(UInt64.init) ?? .random(in: .min ... .max)

    /// - Returns: how many requests were understood, and how many of these refused.
    private func mutate(_ bytes: [UInt8], _ check: ([UInt8]) throws -> Void) -> (understood: Int, refused: Int) {
        // Beforehand: after a crash nothing can be said.
        FileHandle.standardError.write(Data("mutated requests: MUTATION_SEED=\(Self.seed)\n".utf8))
        var random = SplitMix(seed: Self.seed)
        var counts = (understood: 0, refused: 0)
        for _ in 0..<20_000 {
            var mutated = bytes
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let place = mutated.indices.randomElement(using: &random) ?? 0
                switch Int.random(in: 0..<3, using: &random) {
                case 0: mutated[place] = .random(in: .min ... .max, using: &random)
                case 1: mutated[place] = [0, 0x7F, 0x80, 0xFF].randomElement(using: &random) ?? 0
                // A number that goes on as far as numbers go.
                default: mutated.replaceSubrange(place..<place + 1, with: Array(repeating: 0xFF, count: 9) + [1])
                }
            }
            do {
                try check(mutated)
                counts.understood += 1
            } catch is SwiftletError {
                counts.understood += 1
                counts.refused += 1
            } catch {}
        }
        return counts
    }

    @Test func mutatedSandboxesNeverCrash() throws {
        let counts = mutate(try Self.sandbox.serializedBytes()) {
            let spec = try SandboxRequest.spec(CRIPodSandboxConfig(serializedBytes: $0), handler: "")
            _ = SandboxMessage.status(SandboxSnapshot(id: "p", spec: spec, state: .reserved, createdAt: 1))
            _ = PodDemand(pod: spec.resources, overhead: spec.overhead).memory(unlimited: 1 << 29)
        }
        #expect(counts.understood > 1000 && counts.refused > 100, "MUTATION_SEED=\(Self.seed): \(counts)")
    }

    @Test func mutatedContainersNeverCrash() throws {
        let counts = mutate(try Self.container.serializedBytes()) {
            let spec = try ContainerRequest.spec(CRIContainerConfig(serializedBytes: $0))
            _ = spec.resources.cgroupFiles
            _ = PodDemand(pod: nil, overhead: nil, containers: [spec.resources]).cpus
            let snapshot = ContainerSnapshot(
                id: "c", sandboxID: "p", spec: spec, imageID: "i", state: .created, createdAt: 1, logPath: "", stopSignal: 15)
            _ = ContainerMessage.status(snapshot)
        }
        #expect(counts.understood > 1000 && counts.refused > 100, "MUTATION_SEED=\(Self.seed): \(counts)")
    }
}

import CRI
import Errors
import Foundation
import Pods
import Runtime

extension CRIService {
    @Sendable func version(_ request: CRIVersionRequest) async throws -> CRIVersionResponse {
        .with {
            // Of the kubelet's runtime API, not of Swiftlet: containerd and CRI-O answer the same.
            $0.version = "0.1.0"
            $0.runtimeName = "swiftlet"
            $0.runtimeVersion = version
            $0.runtimeApiVersion = "v1"
        }
    }

    @Sendable func status(_ request: CRIStatusRequest) async throws -> CRIStatusResponse {
        async let runtime = pods.runtimeObstacle()
        async let network = pods.networkObstacle()
        let conditions = [
            Self.condition("RuntimeReady", await runtime, reason: "RuntimeNotReady"),
            Self.condition("NetworkReady", await network, reason: "NetworkPluginNotReady"),
            // A kubelet asks for the other two only: pods that are stopped make no node NotReady.
            Self.condition("PodsRunning", pods.halted, reason: "PodsStopped"),
            Self.condition("StateWritable", pods.stateObstacle, reason: "DiskFull"),
        ]
        let handlers = pods.handlerNames
        return .with {
            $0.status.conditions = conditions
            // The empty name is the default handler's alias.
            $0.runtimeHandlers = ([""] + handlers).map(handler)
            $0.features = Self.features
            guard request.verbose else { return }
            $0.info = ["swiftlet": VerboseInfo.json(nodeDetails(handlers)), "config": configuration]
        }
    }

    private func handler(_ name: String) -> CRIRuntimeHandler {
        let capabilities = pods.capabilities(ofHandler: name)
        return .with {
            $0.name = name
            $0.features.recursiveReadOnlyMounts = capabilities.recursiveReadOnlyMounts
            $0.features.userNamespaces = capabilities.userNamespaces
        }
    }

    /// What holds for all handlers.
    private static let features = CRIRuntimeFeatures.with {
        $0.supplementalGroupsPolicy = RuntimeFeature.supplementalGroupsPolicy
        $0.mountOptions = RuntimeFeature.mountOptions
    }

    private func nodeDetails(_ handlers: [String]) -> NodeDetails {
        NodeDetails(
            version: version, handlers: handlers, cgroupDriver: cgroupDriver.rawValue, eventWatchers: pods.eventWatchers,
            podCIDRs: pods.podCIDRs,
            kernel: paths.kernel, initramfs: paths.initramfs, root: paths.root, run: paths.run,
            pools: pods.pools)
    }

    private static func condition(_ type: String, _ obstacle: String?, reason: String) -> CRIRuntimeCondition {
        .with {
            $0.type = type
            $0.status = obstacle == nil
            $0.reason = obstacle == nil ? "" : reason
            $0.message = obstacle ?? ""
        }
    }

    @Sendable func runtimeConfig(_ request: CRIRuntimeConfigRequest) async throws -> CRIRuntimeConfigResponse {
        .with {
            switch cgroupDriver {
            case .systemd: $0.linux.cgroupDriver = .systemd
            case .cgroupfs: $0.linux.cgroupDriver = .cgroupfs
            }
        }
    }

    /// Without a range there is nothing to change.
    @Sendable func updateRuntimeConfig(_ request: CRIUpdateRuntimeConfigRequest) async throws -> CRIUpdateRuntimeConfigResponse {
        let ranges = request.runtimeConfig.networkConfig.podCidr
        if !ranges.isEmpty { try await pods.setPodCIDRs(ranges.split(separator: ",", omittingEmptySubsequences: false).map(String.init)) }
        return CRIUpdateRuntimeConfigResponse()
    }
}

/// What the runtime can do whatever the handler.
enum RuntimeFeature {
    /// Whether `supplemental_groups_policy` Strict is honoured.
    static let supplementalGroupsPolicy = true
    /// Whether `mount_options` is honoured.
    static let mountOptions = true
}

/// Who makes the cgroups that a kubelet names as parents. It must be the kubelet's own driver.
public enum CgroupDriver: String, Sendable {
    case cgroupfs
    case systemd

    /// systemd's where systemd runs the node, by the test of sd_booted(3).
    public static func detect() -> CgroupDriver {
        var isDirectory: ObjCBool = false
        return FileManager.default.fileExists(atPath: "/run/systemd/system", isDirectory: &isDirectory) && isDirectory.boolValue
            ? .systemd : .cgroupfs
    }
}

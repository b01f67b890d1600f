import CRI
import Errors
import GRPC
import Pods

extension CRIService {
    func addRuntimeMethods(to table: inout MethodTable) {
        add(RuntimeRPC.version, to: &table, version)
        add(RuntimeRPC.status, to: &table, status)
        add(RuntimeRPC.runPodSandbox, to: &table, runPodSandbox)
        add(RuntimeRPC.stopPodSandbox, to: &table, stopPodSandbox)
        add(RuntimeRPC.removePodSandbox, to: &table, removePodSandbox)
        add(RuntimeRPC.podSandboxStatus, to: &table, podSandboxStatus)
        addEncoded(RuntimeRPC.listPodSandbox, to: &table, listPodSandbox)
        add(RuntimeRPC.createContainer, to: &table, createContainer)
        add(RuntimeRPC.startContainer, to: &table, startContainer)
        add(RuntimeRPC.stopContainer, to: &table, stopContainer)
        add(RuntimeRPC.removeContainer, to: &table, removeContainer)
        add(RuntimeRPC.containerStatus, to: &table, containerStatus)
        addEncoded(RuntimeRPC.listContainers, to: &table, listContainers)
        add(RuntimeRPC.execSync, to: &table, execSync)
        add(RuntimeRPC.reopenContainerLog, to: &table, reopenContainerLog)
        addStreaming(RuntimeRPC.streamPodSandboxes, to: &table, streamPodSandboxes)
        addStreaming(RuntimeRPC.streamContainers, to: &table, streamContainers)
        addStreaming(RuntimeRPC.getContainerEvents, to: &table, getContainerEvents)
    }

    @Sendable private func version(_ request: CRIVersionRequest) async throws -> CRIVersionResponse {
        .with {
            $0.version = "0.1.0"
            $0.runtimeName = "swiftlet"
            $0.runtimeVersion = version
            $0.runtimeApiVersion = "v1"
        }
    }

    @Sendable private func status(_ request: CRIStatusRequest) async throws -> CRIStatusResponse {
        async let runtime = pods.runtimeObstacle()
        async let network = pods.networkObstacle()
        let conditions = [
            Self.condition("RuntimeReady", await runtime, reason: "RuntimeNotReady"),
            Self.condition("NetworkReady", await network, reason: "NetworkPluginNotReady"),
        ]
        let handlers = pods.handlerNames
        return .with {
            $0.status.conditions = conditions
            // The empty name is the default handler's alias.
            $0.runtimeHandlers = ([""] + handlers).map { name in .with { $0.name = name } }
            if request.verbose { $0.info = ["swiftlet": VerboseInfo.json(nodeDetails(handlers))] }
        }
    }

    private func nodeDetails(_ handlers: [String]) -> [String: String] {
        ["version": version, "handlers": handlers.joined(separator: ",")].merging(details) { own, _ in own }
    }

    private static func condition(_ type: String, _ obstacle: String?, reason: String) -> CRIRuntimeCondition {
        .with {
            $0.type = type
            $0.status = obstacle == nil
            $0.reason = obstacle == nil ? "" : reason
            $0.message = obstacle ?? ""
        }
    }
}

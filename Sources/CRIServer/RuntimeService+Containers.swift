import CRI
import Errors
import Pods
import Runtime

extension CRIService {
    @Sendable func createContainer(_ request: CRICreateContainerRequest) async throws -> CRICreateContainerResponse {
        guard request.hasConfig else { throw SwiftletError(.invalidArgument, "CreateContainer: config is missing") }
        let id = try await pods.createContainer(in: request.podSandboxID, ContainerRequest.spec(request.config))
        return .with { $0.containerID = id }
    }

    @Sendable func startContainer(_ request: CRIStartContainerRequest) async throws -> CRIStartContainerResponse {
        try await pods.startContainer(request.containerID)
        return CRIStartContainerResponse()
    }

    @Sendable func stopContainer(_ request: CRIStopContainerRequest) async throws -> CRIStopContainerResponse {
        try await pods.stopContainer(request.containerID, timeout: .seconds(max(request.timeout, 0)))
        return CRIStopContainerResponse()
    }

    @Sendable func removeContainer(_ request: CRIRemoveContainerRequest) async throws -> CRIRemoveContainerResponse {
        try await pods.removeContainer(request.containerID)
        return CRIRemoveContainerResponse()
    }

    @Sendable func containerStatus(_ request: CRIContainerStatusRequest) async throws -> CRIContainerStatusResponse {
        let container = try pods.container(request.containerID)
        return .with {
            $0.status = ContainerMessage.status(container)
            if request.verbose { $0.info = ["info": VerboseInfo.json(ContainerMessage.details(container, pods))] }
        }
    }

    @Sendable func reopenContainerLog(_ request: CRIReopenContainerLogRequest) async throws -> CRIReopenContainerLogResponse {
        try await pods.reopenLog(of: request.containerID)
        return CRIReopenContainerLogResponse()
    }

    @Sendable func execSync(_ request: CRIExecSyncRequest) async throws -> CRIExecSyncResponse {
        guard request.timeout >= 0 else {
            throw SwiftletError(.invalidArgument, "ExecSync: timeout \(request.timeout) s is negative")
        }
        let result = try await pods.execute(
            request.containerID, request.cmd, timeout: request.timeout == 0 ? nil : .seconds(request.timeout))
        return .with {
            $0.stdout = .init(result.stdout)
            $0.stderr = .init(result.stderr)
            $0.exitCode = result.exitCode
        }
    }
}

/// Containers as CRI messages.
enum ContainerMessage {
    static func state(_ container: ContainerSnapshot) -> CRIContainerState {
        switch container.state {
        case .created: .containerCreated
        case .running: .containerRunning
        case .exited, .removed: .containerExited
        }
    }

    static func metadata(_ spec: ContainerSpec) -> CRIContainerMetadata {
        .with {
            $0.name = spec.metadata.name
            $0.attempt = spec.metadata.attempt
        }
    }

    static func image(_ spec: ContainerSpec) -> CRIImageSpec {
        .with {
            $0.image = spec.imageTag.isEmpty ? spec.image : spec.imageTag
            $0.userSpecifiedImage = spec.userSpecifiedImage
        }
    }

    /// A list of this one.
    static func list(_ container: ContainerSnapshot) -> CRIListContainersResponse {
        .with { $0.containers = [item(container)] }
    }

    static func item(_ container: ContainerSnapshot) -> CRIContainer {
        .with {
            $0.id = container.id
            $0.podSandboxID = container.sandboxID
            $0.metadata = metadata(container.spec)
            $0.image = image(container.spec)
            $0.imageRef = container.imageID
            $0.imageID = container.imageID
            $0.state = state(container)
            $0.createdAt = container.createdAt
            $0.labels = container.spec.labels
            $0.annotations = container.spec.annotations
        }
    }

    /// What verbose adds: what was asked for, and the process of the node in which the container runs.
    static func details(_ container: ContainerSnapshot, _ pods: PodRegistry) -> [String: JSONValue] {
        var details: [String: JSONValue] = [
            "sandboxID": .string(container.sandboxID), "state": .string(container.state.name), "pid": 0,
            "config": ConfigMessage.value(container.spec),
        ]
        if case .running = container.state, let pid = (try? pods.sandbox(container.sandboxID))?.details["pid"] { details["pid"] = pid }
        return details
    }

    static func status(_ container: ContainerSnapshot) -> CRIContainerStatus {
        .with {
            $0.id = container.id
            $0.metadata = metadata(container.spec)
            $0.state = state(container)
            $0.createdAt = container.createdAt
            $0.startedAt = container.state.startedAt
            $0.image = image(container.spec)
            // Scanners look for the digest under which the registry has it.
            $0.imageRef = container.spec.imageDigest ?? container.imageID
            $0.imageID = container.imageID
            $0.labels = container.spec.labels
            $0.annotations = container.spec.annotations
            $0.logPath = container.logPath
            $0.mounts = container.spec.mounts.map(MountMessage.mount)
            $0.resources.linux = ResourcesRequest.message(container.spec.resources)
            $0.stopSignal = SignalMessage.signal(numbered: container.stopSignal)
            if let user = container.user {
                $0.user.linux = .with {
                    $0.uid = Int64(user.uid)
                    $0.gid = Int64(user.gid)
                    $0.supplementalGroups = user.groups.map(Int64.init)
                }
            }
            if let exit = container.state.exit {
                $0.exitCode = exit.code
                $0.finishedAt = exit.finishedAt
                $0.reason = exit.reason
                $0.message = exit.message
            }
        }
    }
}

import CRI
import Errors
import Linux
import Pods
import Runtime

extension CRIService {
    @Sendable func runPodSandbox(_ request: CRIRunPodSandboxRequest) async throws -> CRIRunPodSandboxResponse {
        guard request.hasConfig else { throw SwiftletError(.invalidArgument, "RunPodSandbox: config is missing") }
        let id = try await pods.runSandbox(SandboxRequest.spec(request.config, handler: request.runtimeHandler))
        return .with { $0.podSandboxID = id }
    }

    @Sendable func stopPodSandbox(_ request: CRIStopPodSandboxRequest) async throws -> CRIStopPodSandboxResponse {
        try await pods.stopSandbox(request.podSandboxID)
        return CRIStopPodSandboxResponse()
    }

    @Sendable func removePodSandbox(_ request: CRIRemovePodSandboxRequest) async throws -> CRIRemovePodSandboxResponse {
        try await pods.removeSandbox(request.podSandboxID)
        return CRIRemovePodSandboxResponse()
    }

    @Sendable func podSandboxStatus(_ request: CRIPodSandboxStatusRequest) async throws -> CRIPodSandboxStatusResponse {
        let (sandbox, containers) = try pods.pod(request.podSandboxID)
        let cost = request.verbose ? await pods.hostCost(of: sandbox.id) : []
        return .with {
            $0.status = SandboxMessage.status(sandbox)
            $0.containersStatuses = containers.map { ContainerMessage.status($0.snapshot) }
            $0.timestamp = WallClock.now()
            guard request.verbose else { return }
            $0.info = ["info": VerboseInfo.json(SandboxMessage.details(sandbox)), "hostCost": VerboseInfo.json(cost)]
            if let usage = pods.lastUsage(of: sandbox.id) { $0.info["guestUsage"] = VerboseInfo.json(GuestUsage(usage)) }
        }
    }
}

/// A guest's last answer about its usage, for people.
private struct GuestUsage: Encodable {
    /// Unix time in nanoseconds.
    var time: Int64
    var cpuNanoseconds: UInt64
    var memoryBytes: UInt64
    var memoryAvailableBytes: UInt64
    var memoryTotalBytes: UInt64
    var scratchAvailableBytes: UInt64

    init(_ usage: PodUsage) {
        time = usage.time
        cpuNanoseconds = usage.cgroup.cpu.usageUs.multipliedReportingOverflow(by: 1000).partialValue
        memoryBytes = usage.cgroup.memory.usageBytes
        memoryAvailableBytes = usage.guestMemory.available
        memoryTotalBytes = usage.guestMemory.total
        scratchAvailableBytes = usage.scratch.availableBytes
    }
}

/// Sandboxes as CRI messages.
enum SandboxMessage {
    static func state(_ sandbox: SandboxSnapshot) -> CRIPodSandboxState {
        sandbox.isReady ? .sandboxReady : .sandboxNotready
    }

    static func metadata(_ spec: SandboxSpec) -> CRIPodSandboxMetadata {
        .with {
            $0.name = spec.metadata.name
            $0.uid = spec.metadata.uid
            $0.namespace = spec.metadata.namespace
            $0.attempt = spec.metadata.attempt
        }
    }

    /// A list of this one.
    static func list(_ sandbox: SandboxSnapshot) -> CRIListPodSandboxResponse {
        .with { $0.items = [item(sandbox)] }
    }

    static func item(_ sandbox: SandboxSnapshot) -> CRIPodSandbox {
        .with {
            $0.id = sandbox.id
            $0.metadata = metadata(sandbox.spec)
            $0.state = state(sandbox)
            $0.createdAt = sandbox.createdAt
            $0.labels = sandbox.spec.labels
            $0.annotations = sandbox.spec.annotations
            $0.runtimeHandler = sandbox.spec.runtimeHandler
        }
    }

    static func status(_ sandbox: SandboxSnapshot) -> CRIPodSandboxStatus {
        .with {
            $0.id = sandbox.id
            $0.metadata = metadata(sandbox.spec)
            $0.state = state(sandbox)
            $0.createdAt = sandbox.createdAt
            $0.labels = sandbox.spec.labels
            $0.annotations = sandbox.spec.annotations
            $0.runtimeHandler = sandbox.spec.runtimeHandler
            $0.network.ip = sandbox.addresses.first ?? ""
            $0.network.additionalIps = sandbox.addresses.dropFirst().map { address in .with { $0.ip = address } }
            $0.linux.namespaces.options = namespaces(sandbox.spec)
        }
    }

    static func namespaces(_ spec: SandboxSpec) -> CRINamespaceOption {
        .with {
            $0.pid = spec.sharesPidNamespace ? .pod : .container
            $0.ipc = spec.separatesIPC == true ? .container : .pod
            guard let namespace = spec.userNamespace else { return }
            $0.usernsOptions.mode = .pod
            $0.usernsOptions.uids = namespace.uids.map(MountMessage.mapping)
            $0.usernsOptions.gids = namespace.gids.map(MountMessage.mapping)
        }
    }

    /// What verbose adds: what was asked for, the machine, and what still waits for release.
    static func details(_ sandbox: SandboxSnapshot) -> [String: JSONValue] {
        var details = sandbox.details
        details["state"] = .string(sandbox.state.name)
        details["runtimeHandler"] = .string(sandbox.spec.runtimeHandler)
        details["config"] = VerboseInfo.value(ConfigMessage.config(sandbox.spec))
        if let halt = sandbox.halt {
            details["halted"] = .string(halt.reason)
            details["haltedSince"] = .integer(halt.since)
        }
        if case .failed(let step) = sandbox.state { details["failure"] = .string(step) }
        if !sandbox.pendingReleases.isEmpty { details["pendingReleases"] = .array(sandbox.pendingReleases.map { .string($0) }) }
        return details
    }
}

import CRI
import Errors
import GRPC
import Pods
import Runtime

extension CRIService {
    /// - Returns: an encoded ListPodSandboxResponse.
    @Sendable func listPodSandbox(_ request: CRIListPodSandboxRequest) async throws -> [UInt8] {
        try ListReply.bytes(sandboxes(request.filter), SandboxMessage.list)
    }

    @Sendable func streamPodSandboxes(_ request: CRIStreamPodSandboxesRequest, _ writer: ResponseWriter) async throws {
        try await ListReply.stream(sandboxes(request.filter), SandboxMessage.list, to: writer)
    }

    /// - Returns: an encoded ListContainersResponse.
    @Sendable func listContainers(_ request: CRIListContainersRequest) async throws -> [UInt8] {
        try ListReply.bytes(containers(request.filter), ContainerMessage.list)
    }

    @Sendable func streamContainers(_ request: CRIStreamContainersRequest, _ writer: ResponseWriter) async throws {
        try await ListReply.stream(containers(request.filter), ContainerMessage.list, to: writer)
    }

    /// All conditions hold for each; ids may be cut short, as crictl does.
    ///
    /// - Throws: `.invalidArgument` for a state that the CRI does not know.
    private func sandboxes(_ filter: CRIPodSandboxFilter) throws -> [ListEntry<SandboxSnapshot>] {
        if case .UNRECOGNIZED(let value) = filter.state.state {
            throw SwiftletError(.invalidArgument, "filter.state \(value) is no state of a pod sandbox")
        }
        return pods.sandboxes().filter { listed in
            let sandbox = listed.snapshot
            return sandbox.id.hasPrefix(filter.id)
                && (!filter.hasState || filter.state.state == SandboxMessage.state(sandbox))
                && sandbox.spec.labels.match(filter.labelSelector)
        }
    }

    private func containers(_ filter: CRIContainerFilter) throws -> [ListEntry<ContainerSnapshot>] {
        if case .UNRECOGNIZED(let value) = filter.state.state {
            throw SwiftletError(.invalidArgument, "filter.state \(value) is no state of a container")
        }
        return pods.containers().filter { listed in
            let container = listed.snapshot
            return container.id.hasPrefix(filter.id) && container.sandboxID.hasPrefix(filter.podSandboxID)
                && (!filter.hasState || filter.state.state == ContainerMessage.state(container))
                && container.spec.labels.match(filter.labelSelector)
        }
    }
}

extension [String: String] {
    /// Whether each label of the selector is there with that value.
    func match(_ selector: [String: String]) -> Bool {
        selector.allSatisfy { self[$0.key] == $0.value }
    }
}

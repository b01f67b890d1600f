import CRI
import Errors
import Pods
import Runtime

extension CRIService {
    @Sendable func updateContainerResources(
        _ request: CRIUpdateContainerResourcesRequest
    ) async throws -> CRIUpdateContainerResourcesResponse {
        guard !request.hasWindows else {
            throw SwiftletError(.invalidArgument, "UpdateContainerResources: windows: the containers of this node run Linux")
        }
        guard request.hasLinux else { throw SwiftletError(.invalidArgument, "UpdateContainerResources: linux is missing") }
        try await pods.updateContainer(request.containerID, ResourcesRequest.resources(request.linux))
        return CRIUpdateContainerResourcesResponse()
    }

    @Sendable func updatePodSandboxResources(
        _ request: CRIUpdatePodSandboxResourcesRequest
    ) async throws -> CRIUpdatePodSandboxResourcesResponse {
        try await pods.updateSandbox(
            request.podSandboxID, resources: request.hasResources ? ResourcesRequest.resources(request.resources) : nil,
            overhead: request.hasOverhead ? ResourcesRequest.resources(request.overhead) : nil)
        return CRIUpdatePodSandboxResourcesResponse()
    }
}

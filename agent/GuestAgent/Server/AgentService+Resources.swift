import AgentProtocol
import Errors

extension AgentService {
    @Sendable func updateContainer(_ request: AgentUpdateContainerRequest) throws(SwiftletError) -> AgentUpdateContainerResponse {
        try containers.find(request.containerID).container.update(request.resources.unified)
        return .init()
    }

    @Sendable func grow(_ request: AgentGrowRequest) throws(SwiftletError) -> AgentGrowResponse {
        try dependencies.grow(request)
    }
}

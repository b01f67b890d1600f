import CRI
import GRPC
import Pods
import Runtime
import SwiftProtobuf

extension CRIService {
    /// Sends every change until the client goes, falls behind, or the daemon ends.
    @Sendable func getContainerEvents(_ request: CRIGetEventsRequest, _ writer: ResponseWriter) async throws {
        for try await event in pods.events() {
            try await writer.write(EventMessage.message(event).serializedBytes())
        }
    }
}

/// Events as CRI messages.
enum EventMessage {
    static func message(_ event: PodEvent) -> CRIContainerEventResponse {
        .with {
            $0.containerID = event.id
            $0.containerEventType = kind(event.kind)
            $0.createdAt = event.time
            if let sandbox = event.sandbox { $0.podSandboxStatus = SandboxMessage.status(sandbox) }
            $0.containersStatuses = event.containers.map { ContainerMessage.status($0.snapshot) }
        }
    }

    private static func kind(_ kind: PodEvent.Kind) -> CRIContainerEventType {
        switch kind {
        case .created: .containerCreatedEvent
        case .started: .containerStartedEvent
        case .stopped: .containerStoppedEvent
        case .deleted: .containerDeletedEvent
        }
    }
}

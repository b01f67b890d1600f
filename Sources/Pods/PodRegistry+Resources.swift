import Errors
import Runtime

extension PodRegistry {
    /// Changes a container's limits: all that `change` says, or nothing.
    ///
    /// - Throws: `.notFound`; `.failedPrecondition` for a container that has ended; `.invalidArgument` naming the field.
    public func updateContainer(_ id: String, _ change: LinuxResources) async throws {
        let (pod, id) = try podOfContainer(id)
        try await pod.updateContainer(id, change)
    }

    /// Changes a pod's limits as a whole. Nil leaves them as they are.
    ///
    /// - Throws: `.notFound`; `.failedPrecondition` for a sandbox that is not ready; `.invalidArgument` naming the field.
    public func updateSandbox(_ id: String, resources: LinuxResources?, overhead: LinuxResources?) async throws {
        let snapshot = try sandbox(id)
        guard let pod = pods.withLock({ $0[snapshot.id] }) else { throw SwiftletError(.notFound, "pod sandbox \(id)") }
        try await pod.updateResources(pod: resources, overhead: overhead)
    }
}

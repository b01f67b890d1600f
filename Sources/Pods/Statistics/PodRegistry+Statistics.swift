import Errors
import Runtime

extension PodRegistry {
    /// What these pods use, all asked at once. A pod that is not ready, or whose guest has never answered, is left out.
    ///
    /// - Parameter openFiles: also count open files, which takes the guest longer.
    public func usage(of sandboxes: [SandboxSnapshot], openFiles: Bool = false) async -> [String: PodUsage] {
        let statistics = context.statistics
        statistics.keep(Set(context.snapshots.sandboxes().map(\.snapshot.id)))
        return await withTaskGroup(of: (String, PodUsage?).self) { group in
            for sandbox in sandboxes where sandbox.isReady {
                guard let pod = pods.withLock({ $0[sandbox.id] }) else { continue }
                let containers = context.snapshots.pod(sandbox.id)?.containers ?? []
                group.addTask {
                    let usage = await statistics.usage(
                        .init(sandbox: sandbox.id, openFiles: openFiles), sandbox: sandbox, containers: containers, mark: pod.mark
                    ) {
                        if let halt = await pod.halt { throw SwiftletError(.unavailable, "pod sandbox \(sandbox.id): \(halt)") }
                        guard let machine = await pod.machine else {
                            throw SwiftletError(.unavailable, "pod sandbox \(sandbox.id) has no machine now")
                        }
                        return try await machine.statistics(openFiles: openFiles, containers: containers.count)
                    }
                    return (sandbox.id, usage)
                }
            }
            var usages: [String: PodUsage] = [:]
            for await (id, usage) in group { usages[id] = usage }
            return usages
        }
    }

    /// What the guest reported last, without asking it; nil when nobody has asked yet.
    public func lastUsage(of sandboxID: String) -> PodUsage? {
        context.statistics.last(sandboxID)
    }

    /// What the pod's machine and its helpers cost the node. Reads the ledger and /proc; asks nobody.
    public func hostCost(of sandboxID: String) async -> [HostCost] {
        guard let pod = pods.withLock({ $0[sandboxID] }) else { return [] }
        return await HostCost.measure(pod.ledger.entries)
    }
}

import Logging
import State

extension PodRegistry {
    /// Takes over what an earlier daemon left. On return every pod is listed; their machines are looked for meanwhile, all
    /// pods at once, and calls for a pod wait for its own.
    public func recover() async throws {
        let handler = handlers[defaultHandler]
        try await context.settings.load(context.logger) { try await handler?.configureNetwork(ranges: $0) }
        let stored = try await context.store.load()
        for (id, reason) in stored.unreadable {
            context.logger.error("record skipped", metadata: ["id": "\(id)", "reason": "\(reason)"])
        }
        var resources = try await Ledger.stored(in: context.store.database)
        let containers = Dictionary(grouping: stored.containers, by: \.sandboxID)
        for sandbox in stored.sandboxes {
            let document = sandbox.document
            let named = handlers[document.spec.runtimeHandler.isEmpty ? defaultHandler : document.spec.runtimeHandler]
            guard let handler = named ?? handlers[defaultHandler] else { continue }
            let pod = Pod(
                id: sandbox.id, spec: document.spec, createdAt: sandbox.createdAt, state: document.state, handler: handler,
                context: context, holding: resources.removeValue(forKey: sandbox.id) ?? [])
            let snapshots = (containers[sandbox.id] ?? []).map { Self.snapshot($0.id, $0.sandboxID, $0.createdAt, $0.document) }
            await pod.restore(snapshots.map { ($0, resources.removeValue(forKey: $0.id) ?? []) })
            pods.withLock { $0[pod.id] = pod }
        }
        for owner in stored.unreadable.map(\.id) + stored.containers.map(\.id) { resources[owner] = nil }
        orphans.adopt(resources, in: context.store.database)
        let found = pods.withLock { Array($0.values) }
        let recovery = Task {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await self.orphans.release() }
                for pod in found {
                    group.addTask {
                        if await pod.recover() { try? await self.forget(pod) }
                    }
                }
            }
        }
        recoveryWork.withLock { $0 = recovery }
    }

    /// Waits until every pod of an earlier daemon has been found again or given up.
    public func recovered() async {
        await recoveryWork.withLock { $0 }?.value
    }

    private static func snapshot(_ id: String, _ sandboxID: String, _ createdAt: Int64, _ document: ContainerDocument) -> ContainerSnapshot
    {
        ContainerSnapshot(
            id: id, sandboxID: sandboxID, spec: document.spec, imageID: document.imageID, state: document.state, createdAt: createdAt,
            logPath: document.logPath, stopSignal: document.stopSignal, user: document.user)
    }

    /// Retries releases that failed, until `close`.
    public func startCollector(every interval: Duration = .seconds(10)) {
        let task = Task { [weak self] in
            while !Task.isCancelled {
                try? await Task.sleep(for: interval)
                guard let self else { return }
                let pods = self.pods.withLock { Array($0.values) }
                await withTaskGroup(of: Void.self) { group in
                    for pod in pods { group.addTask { await pod.retryPendingReleases() } }
                    group.addTask { await self.orphans.release() }
                }
            }
        }
        collector.withLock { $0 = task }
    }

    /// Ends background work. Pods go on without the daemon.
    public func close() {
        collector.withLock { $0?.cancel() }
        recoveryWork.withLock { $0?.cancel() }
    }
}

import Concurrency
import Errors
import Linux
import Logging
import Runtime
import State

extension PodRegistry {
    /// Takes over what an earlier daemon left. On return every pod is listed; their machines are looked for meanwhile, all
    /// pods at once, and calls for a pod wait for its own.
    public func recover() async throws {
        let network = context.network
        try await context.settings.load(context.logger) { try await network.configure(ranges: $0) }
        network.collectGarbage()
        let stored = try await context.store.load()
        var resources = try await Ledger.stored(in: context.store.database)
        let listed = Set(resources.values.joined().map { ListedResource(kind: $0.kind, name: $0.name) })
        for sandbox in stored.sandboxes {
            let pod = restoredPod(sandbox, holding: resources.removeValue(forKey: sandbox.id) ?? [])
            let containers = (stored.containers[sandbox.id] ?? []).map { restoredContainer($0, in: sandbox.id) }
            await pod.restore(containers.map { ($0, resources.removeValue(forKey: $0.id) ?? []) })
            pods.withLock { $0[pod.id] = pod }
        }
        await context.output.keep(only: Set(stored.containers.values.flatMap { $0.map(\.id) }))
        await openPools(&resources)
        orphans.adopt(resources, in: context.store.database)
        await adoptLeftovers(besides: Set(stored.sandboxes.map(\.id)).union(resources.keys), and: listed)
        let found = pods.withLock { $0 }
        let findings = CrashFindings(context.crashes?.last, pods: Set(found.keys))
        // Before a client is served and anything else happens: what crashes now is the pod's own.
        await recoverOneByOne(findings.suspects.compactMap { found[$0] })
        let recovery = Task {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await self.orphans.release() }
                for (id, pod) in found where !findings.suspects.contains(id) {
                    group.addTask { await self.recover(pod, isCulprit: id == findings.culprit) }
                }
            }
        }
        recoveryWork.withLock { $0 = recovery }
        for handler in handlers.values { await (handler as? any PoolingHandler)?.fillPool() }
        reviews.withLock { reviews in
            reviews = Task {
                await recovery.value
                // One at a time: nobody waits for them.
                for pod in found.values where !Task.isCancelled {
                    await pod.checkNetwork()
                    await pod.refit()
                }
            }
        }
    }

    /// What is in the ledger, whoever owns it.
    private struct ListedResource: Hashable {
        var kind: ResourceKind
        var name: String
    }

    /// Lets the handlers that keep machines for pods to come begin with it, and take out what they look after.
    private func openPools(_ resources: inout [String: [LedgerEntry]]) async {
        let found = resources.filter { $0.key.hasPrefix(Ledger.poolOwnerPrefix) }
        for handler in handlers.values {
            guard let handler = handler as? any PoolingHandler else { continue }
            let isTaken = await handler.openPool(in: context.store.database, holding: found, releasers: context.releasers)
            if isTaken { resources = resources.filter { found[$0.key] == nil } }
        }
    }

    /// Of the handlers that keep machines for pods to come, by their names.
    public var pools: [String: PoolFigures] { handlers.compactMapValues { ($0 as? any PoolingHandler)?.pool } }

    /// Ends the work on the pools.
    public func closePools() async {
        for handler in handlers.values { await (handler as? any PoolingHandler)?.closePool() }
    }

    /// How long a handler may look for what earlier daemons have left.
    private static let leftoverSearch = Duration.seconds(20)

    /// What no record lists, because the state was lost or replaced, is released as what the ledger lists for owners nobody knows.
    ///
    /// - Parameter listed: what the ledger lists. A machine that waited for its pod carries another name on the node than the pod's.
    private func adoptLeftovers(besides owners: Set<String>, and listed: Set<ListedResource>) async {
        let known = Set(owners.map { $0.prefix(Leftover.prefixLength) })
        let isKnown: @Sendable (String) -> Bool = { known.contains($0.prefix(Leftover.prefixLength)) }
        let network = context.network
        // In the order of acquisition: the network is released last.
        var searches: [(String, @Sendable () async throws -> [Leftover])] = [
            ("the network", { try await network.leftovers(besides: isKnown) })
        ]
        searches += handlers.values.map { handler in (handler.name, { try await handler.leftovers(besides: isKnown) }) }
        var found: [Leftover] = []
        for (name, search) in searches {
            do {
                found += try await withDeadline(Self.leftoverSearch, "look for what \(name) has left", search)
            } catch {
                context.logger.error("not looked for what no record lists; the next start does", metadata: ["error": "\(error)"])
                return
            }
        }
        let byPod = Dictionary(grouping: found) { String($0.pod.prefix(Leftover.prefixLength)) }
            .filter { !$0.value.contains { listed.contains(ListedResource(kind: $0.kind, name: $0.name)) } }
        guard !byPod.isEmpty else { return }
        context.logger.error(
            "pods that no record lists are ended: the state was lost or replaced", metadata: ["pods": "\(byPod.keys.sorted())"])
        let entries = byPod.map { pod, leftovers in
            let owner = "lost-\(pod)"
            return (
                owner,
                leftovers.enumerated().map { index, leftover in
                    LedgerEntry(
                        owner: owner, kind: leftover.kind, name: leftover.name, document: leftover.document, sequence: Int64(index))
                }
            )
        }
        orphans.adopt(Dictionary(uniqueKeysWithValues: entries), in: context.store.database)
    }

    private func recover(_ pod: Pod, isCulprit: Bool) async {
        let signal = context.crashes?.last?.signal ?? 0
        let isNobodys =
            isCulprit
            ? await pod.setApart("swiftletd crashed (signal \(signal)) on what its guest sent; its machine was destroyed")
            : await pod.recover()
        if isNobodys { try? await forget(pod) }
    }

    /// How long a suspect is watched alone after it was found again.
    private static let watch = Duration.milliseconds(500)

    /// How long the suspects may keep the daemon from serving; those that are left then are found with the others' calls.
    private static let search = Duration.seconds(60)

    /// One of them may have crashed the daemon again and again: each is suspected alone while it is looked for.
    private func recoverOneByOne(_ suspects: [Pod]) async {
        let end = ContinuousClock.now + Self.search
        for pod in suspects.sorted(by: { $0.id < $1.id }) {
            let recovery = Task { await self.recover(pod, isCulprit: false) }
            guard ContinuousClock.now < end, !Task.isCancelled else { continue }
            await pod.mark.alone {
                try? await withDeadline(.seconds(5), "recover pod sandbox \(pod.id)") { await recovery.value }
                try? await Task.sleep(for: Self.watch)
            }
        }
    }

    /// Waits until every pod of an earlier daemon has been found again or given up.
    public func recovered() async {
        await recoveryWork.withLock { $0 }?.value
    }

    private func restoredPod(_ found: PodStore.Found<SandboxDocument>, holding resources: [LedgerEntry]) -> Pod {
        let (spec, state, isUnreadable): (SandboxSpec, SandboxState, Bool)
        switch found.document {
        case .success(let document): (spec, state, isUnreadable) = (document.spec, document.state, false)
        case .failure(let error):
            context.logger.error("record cannot be read", metadata: ["pod": "\(found.id)", "error": "\(error)"])
            (spec, state, isUnreadable) = (Salvage.sandbox(found), .failed(step: "\(error)"), true)
        }
        let name = spec.runtimeHandler.isEmpty ? defaultHandler : spec.runtimeHandler
        return Pod(
            id: found.id, spec: spec, createdAt: found.createdAt, state: state, handler: handlers[name] ?? AbsentHandler(name: name),
            context: context, holding: resources, unreadable: isUnreadable)
    }

    private func restoredContainer(_ found: PodStore.Found<ContainerDocument>, in sandboxID: String) -> ContainerSnapshot {
        switch found.document {
        case .success(let document):
            return ContainerSnapshot(
                id: found.id, sandboxID: sandboxID, spec: document.spec, imageID: document.imageID, state: document.state,
                createdAt: found.createdAt, logPath: document.logPath, stopSignal: document.stopSignal, user: document.user)
        case .failure(let error):
            context.logger.error("record cannot be read", metadata: ["container": "\(found.id)", "error": "\(error)"])
            return Salvage.container(found, in: sandboxID, error)
        }
    }

    /// Retries releases that failed, until `close`.
    public func startCollector(every interval: Duration = .seconds(10)) {
        let task = Task { [weak self] in
            while !Task.isCancelled {
                try? await Task.sleep(for: interval)
                guard let self else { return }
                // Beside the next round: a release that hangs keeps no other from its retry.
                Task { await self.collect() }
            }
        }
        collector.withLock { $0 = task }
    }

    /// Tries once again all releases that failed and are not being tried.
    func collect() async {
        let pods = pods.withLock { Array($0.values) }
        await withTaskGroup(of: Void.self) { group in
            for pod in pods { group.addTask { await pod.retryPendingReleases() } }
            group.addTask { await self.orphans.release() }
        }
    }

    /// Ends background work. Pods go on without the daemon.
    public func close() {
        collector.withLock { $0?.cancel() }
        recoveryWork.withLock { $0?.cancel() }
        reviews.withLock { $0?.cancel() }
    }
}

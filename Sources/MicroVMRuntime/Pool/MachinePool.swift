import AgentClient
import Concurrency
import Errors
import Foundation
import Linux
import Logging
import Machines
import PodMachine
import Runtime
import State
import Synchronization

/// The machines that wait for pods, of one or several sizes: makes them one at a time while no pod starts, and gives each to one pod. One
/// that was given never comes back.
actor MachinePool {
    private struct Waiting {
        var machine: PooledMachine
        /// Looks whether it ends.
        var watch: Task<Void, Never>
    }

    /// What a machine needs beside its own memory is never the node's last: so much stays available, and nobody waits for memory.
    private static let reserve: UInt64 = 256 << 20
    private static let mostPressure = 10.0
    /// How often a node that is short of memory is looked at.
    private static let memoryPause = Duration.seconds(10)
    private static let patience = Duration.seconds(5)

    private let handler: MicroVMHandler
    private let shapes: [PoolShape]
    private let database: StateDatabase
    private let releases: PoolReleases
    private let memory: @Sendable () -> NodeMemory?
    private let logger: Logger
    private nonisolated let starts = Mutex(PodStarts())
    private nonisolated let state: Mutex<PoolFigures>
    private nonisolated let (changes, change) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))

    private var waiting: [Waiting] = [] {
        didSet {
            let counts = counts
            state.withLock { state in
                for (index, shape) in shapes.enumerated() { state.update(index) { $0.waiting = counts[shape.extent, default: 0] } }
            }
        }
    }
    private var refilling: PoolRefill
    private var work: Task<Void, Never>?
    private var isClosed = false

    private nonisolated var configuration: PoolConfiguration { handler.configuration.pool }
    private var counts: [MachineExtent: Int] { Dictionary(grouping: waiting, by: \.machine.extent).mapValues(\.count) }
    nonisolated var figures: PoolFigures { state.withLock { $0 } }

    init(
        _ handler: MicroVMHandler, in database: StateDatabase, releasers: Releasers,
        memory: @escaping @Sendable () -> NodeMemory? = NodeMemory.now
    ) {
        self.handler = handler
        self.database = database
        releases = PoolReleases(releasers, pause: handler.configuration.pool.releasePause, handler.logger)
        self.memory = memory
        logger = handler.logger
        shapes = handler.configuration.poolShapes
        refilling = PoolRefill(shapes, handler.configuration.pool)
        state = Mutex(PoolFigures(shapes.map { .init(memoryBytes: $0.extent.memoryBytes, vcpus: $0.extent.vcpus, size: $0.size) }))
    }

    // MARK: Life

    /// Takes the machines of an earlier daemon over that are as new ones would be.
    func open(holding found: [String: [LedgerEntry]]) async {
        let blueprints = await handler.blueprints()
        for (owner, entries) in found.sorted(by: { $0.key < $1.key }) {
            let ledger = Ledger(owner: owner, database: database, entries: entries)
            do {
                let machine = try await handler.pooledMachine(ledger, blueprints)
                guard hasRoom(for: machine.extent) else { throw SwiftletError(.resourceExhausted, "the pool is full") }
                keep(machine)
                logger.info("machine of the pool found again", metadata: ["domain": "\(machine.names.domain)"])
            } catch {
                logger.notice("machine of the pool thrown away", metadata: ["owner": "\(owner)", "reason": "\(error)"])
                discard(ledger)
            }
        }
    }

    /// Begins to make what is missing.
    func fill() {
        guard work == nil, !isClosed else { return }
        work = Task { await self.refill() }
    }

    /// Ends the work; a boot under way is undone. The machines wait for the next daemon, unless they are to end with this one.
    func close() async {
        isClosed = true
        work?.cancel()
        await work?.value
        let left = waiting
        waiting = []
        for one in left {
            one.watch.cancel()
            if configuration.drains { discard(one.machine.ledger) }
        }
        await releases.finish(within: .seconds(20))
    }

    // MARK: Starts of pods

    /// Runs what a pod's start consists of, beside which no machine is made.
    nonisolated func start<Value: Sendable>(_ body: () async throws -> Value) async rethrows -> Value {
        starts.withLock { $0.begin() }
        defer {
            starts.withLock { $0.end() }
            change.yield()
        }
        return try await body()
    }

    /// A pod has started: its first container is to follow.
    nonisolated func expectContainer(of pod: String) {
        starts.withLock { $0.expectContainer(of: pod, within: configuration.containerPatience) }
    }

    /// The pod's first container has started, or none will.
    nonisolated func containerCame(to pod: String) {
        starts.withLock { $0.containerCame(to: pod) }
        change.yield()
    }

    /// Gives a machine away that fits, the one that has the least to grow, the oldest of those; nil when none waits that is as new ones
    /// would be.
    func take(_ wanted: MachineExtent, _ blueprints: [MachineExtent: String]) -> PooledMachine? {
        while let index = nearest(to: wanted) {
            let one = waiting.remove(at: index)
            one.watch.cancel()
            change.yield()
            let machine = one.machine
            if machine.blueprint == blueprints[machine.extent], machine.process?.isAlive != false,
                handler.fullDisks.halt(of: machine.names.machine) == nil
            {
                return machine
            }
            logger.notice("machine of the pool thrown away", metadata: ["domain": "\(machine.names.domain)"])
            discard(machine.ledger)
        }
        return nil
    }

    /// None of them is larger than what is wanted: the largest has the least to grow.
    private func nearest(to wanted: MachineExtent) -> Int? {
        waiting.indices.filter { handler.machine(of: waiting[$0].machine.extent, fits: wanted) }.max { first, second in
            let (first, second) = (waiting[first].machine.extent, waiting[second].machine.extent)
            return (first.vcpus, first.memoryBytes) < (second.vcpus, second.memoryBytes)
        }
    }

    nonisolated func countHit(_ extent: MachineExtent) {
        guard let index = shapes.firstIndex(where: { $0.extent == extent }) else { return }
        state.withLock { $0.update(index) { $0.hits += 1 } }
    }

    nonisolated func count(_ change: (inout PoolFigures) -> Void) { state.withLock { change(&$0) } }

    /// Has a machine wait again whose guest has been told nothing of the pod that it was taken for.
    ///
    /// - Parameter awake: lets the machine go on.
    nonisolated func giveBack(_ machine: PooledMachine, _ awake: Task<AgentClient, any Error>) {
        releases.begin(machine.ledger.owner) {
            do {
                try await awake.value.close()
                await self.waitsAgain(try await self.halted(machine))
            } catch {
                self.discard(machine.ledger)
            }
        }
    }

    private nonisolated func halted(_ machine: PooledMachine) async throws -> PooledMachine {
        var machine = machine
        // From before the look whether it is there.
        machine.end = handler.ends.expected(of: machine.names.machine)
        try await Failpoint.pass(
            "give the machine back",
            around: { [handler, id = machine.names.machine] in
                try await withDeadline(Self.patience, "pause the machine") { try await handler.hypervisor.pause(id) }
            })
        return machine
    }

    private func waitsAgain(_ machine: PooledMachine) {
        if isClosed {
            if configuration.drains { discard(machine.ledger) }
        } else if hasRoom(for: machine.extent) {
            keep(machine)
        } else {
            discard(machine.ledger)
        }
    }

    /// Ends a machine that was given to a pod and is of no use to it, whose start goes on with another.
    ///
    /// - Throws: `.aborted` when the pod is being released, and its machine with it.
    func takeBack(_ machine: PooledMachine, from pod: Ledger) async throws {
        discard(machine.ledger)
        let ledger = Ledger(owner: machine.ledger.owner, database: database)
        // Acquired for the pod, whatever its machine is.
        let pods: Set<ResourceKind> = [.networkNamespace, .networkAttachment, .cgroup]
        try await pod.transfer(to: ledger) { !pods.contains($0.kind) }
        discard(ledger)
    }

    /// Releases what a machine holds that no pod will have, again and again until nothing is left.
    nonisolated func discard(_ ledger: Ledger) { releases.discard(ledger) }

    // MARK: Refill

    private func refill() async {
        var wakes = changes.makeAsyncIterator()
        while !Task.isCancelled {
            guard case .make(let extent) = decision else {
                await wake(&wakes)
                continue
            }
            if let shortage = await shortage(extent) {
                note(shortage, extent)
                refilling.postpone(extent, by: Self.memoryPause)
                continue
            }
            do {
                try await add(extent)
                note(nil, extent)
                refilling.made(extent)
            } catch {
                if Task.isCancelled { return }
                note("\(error)", extent)
                refilling.failed(extent)
            }
        }
    }

    private var decision: PoolRefill.Decision { refilling.decision(counts, quiet: quiet) }

    /// Returns when something has changed, or when it is time to make the next machine.
    private func wake(_ wakes: inout AsyncStream<Void>.Iterator) async {
        guard case .wait(let pause) = decision else { return }
        let timer = pause.map { pause in
            Task { [change] in
                guard (try? await Task.sleep(for: pause)) != nil else { return }
                change.yield()
            }
        }
        _ = await wakes.next(isolation: #isolation)
        timer?.cancel()
    }

    private func note(_ obstacle: String?, _ extent: MachineExtent) {
        guard let index = shapes.firstIndex(where: { $0.extent == extent }) else { return }
        let (isNew, shape) = state.withLock { state in
            let isNew = state.shapes[index].obstacle != obstacle
            state.update(index) { $0.obstacle = obstacle }
            return (isNew, state.shapes[index].name)
        }
        if isNew, let obstacle { logger.warning("no machine for the pool", metadata: ["shape": "\(shape)", "reason": "\(obstacle)"]) }
    }

    /// From when on no pod starts, nor has just started; nil: one starts.
    private var quiet: ContinuousClock.Instant? { starts.withLock { $0.quiet(after: configuration.rest) } }

    /// Why the node has no memory for another machine; nil: it has.
    private func shortage(_ extent: MachineExtent) async -> String? {
        let memory = memory
        guard let now = await OwnThread.answer({ memory() }) else { return nil }
        if let pressure = now.pressure, pressure > Self.mostPressure {
            return "the node is short of memory: in \(pressure) % of the last ten seconds somebody waited for it"
        }
        let needed = PoolShape(extent: extent, size: 1).memory + Self.reserve
        guard now.available < needed else { return nil }
        return "the node has \(now.available >> 20) MiB of memory available; another machine is made with \(needed >> 20)"
    }

    private func add(_ extent: MachineExtent) async throws {
        let id = UUID().uuidString.filter { $0 != "-" }.lowercased()
        let ledger = Ledger(owner: Ledger.poolOwnerPrefix + id, database: database)
        do {
            let machine = try await handler.bootForPool(id, extent, ledger)
            // One that was given to a pod may have come back meanwhile.
            if hasRoom(for: extent) { keep(machine) } else { discard(ledger) }
        } catch {
            discard(ledger)
            throw error
        }
    }

    private func hasRoom(for extent: MachineExtent) -> Bool {
        counts[extent, default: 0] < shapes.first { $0.extent == extent }?.size ?? 0
    }

    private func keep(_ machine: PooledMachine) {
        let (end, process, owner) = (machine.end, machine.process, machine.ledger.owner)
        let watch = Task { [weak self] in
            let reason = await withTaskGroup(of: String?.self, returning: String?.self) { group in
                group.addTask { await end.first { _ in true }?.description }
                if let process { group.addTask { await process.hasEnded() ? "QEMU (process \(process.pid)) has ended" : nil } }
                defer { group.cancelAll() }
                for await case let reason? in group { return reason }
                return nil
            }
            if let reason, !Task.isCancelled { await self?.lost(owner, reason) }
        }
        waiting.append(Waiting(machine: machine, watch: watch))
    }

    private func lost(_ owner: String, _ reason: String) {
        guard let index = waiting.firstIndex(where: { $0.machine.ledger.owner == owner }) else { return }
        let machine = waiting.remove(at: index).machine
        logger.warning("machine of the pool lost", metadata: ["domain": "\(machine.names.domain)", "reason": "\(reason)"])
        discard(machine.ledger)
        change.yield()
    }
}

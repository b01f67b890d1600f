import Concurrency
import Errors
import Linux
import Logging
import Runtime
import Synchronization

/// Asks guests what their pods use. Each is asked on its own; none waits for another.
///
/// A guest that does not answer is waited for once. Until it does, its last answer is used, or none.
final class Statistics: Sendable {
    struct Key: Hashable {
        var sandbox: String
        var openFiles: Bool
    }

    fileprivate struct Entry {
        var question: Task<Void, Never>?
        /// The question under way was waited for in vain.
        var isSilent = false
        var last: PodUsage?
        var rate: CPURate?
        var containerRates: [String: CPURate] = [:]
    }

    /// For a guest that did not answer the last time.
    private static let briefly = Duration.milliseconds(20)

    private let patience: Duration
    private let logger: Logger
    private let entries = Mutex<[Key: Entry]>([:])

    init(patience: Duration, logger: Logger) {
        self.patience = patience
        self.logger = logger
    }

    /// What the pod uses now, or used when its guest answered last; nil when it never did.
    ///
    /// - Parameters:
    ///   - containers: those that the host knows of; what the guest says of others is dropped.
    ///   - mark: of the pod.
    ///   - ask: the question itself; it ends by itself.
    func usage(
        _ key: Key, sandbox: SandboxSnapshot, containers: [ListEntry<ContainerSnapshot>], mark: CrashMark,
        _ ask: @escaping @Sendable () async throws -> SandboxFigures
    ) async -> PodUsage? {
        let (question, limit) = entries.withLock { entries in
            let entry = entries[key] ?? Entry()
            let question = entry.question ?? Task { await self.ask(key, sandbox, containers, mark, ask) }
            if entry.question == nil { entries[key, default: entry].question = question }
            return (question, entry.isSilent ? Self.briefly : patience)
        }
        do {
            try await withDeadline(limit, "ask for statistics") { await question.value }
        } catch {
            entries.withLock { if $0[key]?.question == question { $0[key]?.isSilent = true } }
        }
        return entries.withLock { $0[key]?.last }
    }

    /// The last answer, without asking.
    func last(_ sandbox: String) -> PodUsage? {
        entries.withLock { entries in
            [false, true].compactMap { entries[Key(sandbox: sandbox, openFiles: $0)]?.last }.max { $0.time < $1.time }
        }
    }

    /// Forgets all pods but these.
    func keep(_ sandboxes: Set<String>) {
        entries.withLock { entries in entries = entries.filter { sandboxes.contains($0.key.sandbox) } }
    }

    private func ask(
        _ key: Key, _ sandbox: SandboxSnapshot, _ containers: [ListEntry<ContainerSnapshot>], _ mark: CrashMark,
        _ ask: @Sendable () async throws -> SandboxFigures
    ) async {
        do {
            let answer = try await ask()
            mark.during {
                entries.withLock { entries in
                    guard var entry = entries[key] else { return }
                    entry.take(answer, sandbox, containers.map(\.snapshot))
                    entries[key] = entry
                }
            }
        } catch {
            logger.debug("no statistics", metadata: ["pod": "\(key.sandbox)", "error": "\(error)"])
            entries.withLock { $0[key]?.question = nil }
        }
    }
}

extension Statistics.Entry {
    fileprivate mutating func take(_ answer: SandboxFigures, _ sandbox: SandboxSnapshot, _ containers: [ContainerSnapshot]) {
        question = nil
        isSilent = false
        let (time, now) = (WallClock.now(), ContinuousClock.now)
        let reported = Dictionary(answer.containers.map { ($0.containerID, $0) }) { first, _ in first }
        var usages: [String: ContainerUsage] = [:]
        for container in containers {
            guard let stats = reported[container.id] else { continue }
            let usage = stats.cgroup.cpu.usageUs
            var rate = containerRates[container.id] ?? CPURate(usage, at: now, age: .nanoseconds(time - container.state.startedAt))
            rate.update(usage, at: now)
            containerRates[container.id] = rate
            var cgroup = GuestAccount.bounded(stats.cgroup)
            cgroup.raiseHugepagePeaks(by: last?.containers[container.id]?.cgroup.hugepages ?? [])
            usages[container.id] = ContainerUsage(
                time: time, cgroup: cgroup, nanoCores: container.state.startedAt > 0 ? rate.nanoCores : nil,
                writableLayer: stats.writableLayer, processes: stats.processes)
        }
        containerRates = containerRates.filter { usages[$0.key] != nil }
        let usage = answer.pod.cpu.usageUs
        var podRate = rate ?? CPURate(usage, at: now, age: .nanoseconds(time - sandbox.createdAt))
        podRate.update(usage, at: now)
        rate = podRate
        last = PodUsage(
            time: time, cgroup: GuestAccount.bounded(answer.pod), nanoCores: podRate.nanoCores, containers: usages,
            interfaces: GuestAccount.bounded(answer.interfaces), scratch: answer.scratch,
            guestMemory: (answer.memoryTotalBytes, answer.memoryAvailableBytes))
    }
}

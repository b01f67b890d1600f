import Concurrency
import Errors
import Glibc
import Linux
import Logging
import Machines
import Runtime
import Synchronization

/// Machines that are stopped because the file system of their scratch disk is full, and what lets them go on.
///
/// While there is one, each one's file system is looked at, on the monotonic clock.
package final class FullDisks: Sendable {
    /// Bytes that must be available for each machine that goes on, so that it does not stop again at its next write.
    package static let roomForEach: UInt64 = 64 << 20

    private struct Watched {
        let disk: String
        var halt: SandboxHalt?
        /// What had no room in the halt of the moment, each its own file system's.
        var full: [String] = []
        /// Since it was let go on for the last time, whether or not it did.
        var resumedAt: ContinuousClock.Instant?
        /// How often it has stopped again soon after that, and when it is let go on next.
        var relapses = 0
        var nextResume: ContinuousClock.Instant?
        /// Somebody has paused it, and room on the disk is no reason to let it go on.
        var isHeld = false
        /// Events that the halt of the moment was reported by, and when the last of them came.
        var reports = 0
        var reportedAt = ContinuousClock.now
        var listeners: [UInt64: AsyncStream<SandboxHalt?>.Continuation] = [:]
    }

    private struct State {
        var machines: [MachineID: Watched] = [:]
        var nextListener: UInt64 = 0
        var work: Task<Void, Never>?
    }

    private let hypervisor: any Hypervisor
    private let interval: Duration
    private let settling: Duration
    private let space: @Sendable (_ path: String) -> FileSystemSpace?
    private let logger: Logger
    private let state = Mutex(State())

    /// - Parameters:
    ///   - interval: from one look at the file systems to the next.
    ///   - settling: a machine that stops sooner than this after it went on is let go on after longer and longer pauses.
    ///   - space: of the file system that holds a path; nil when it cannot be asked. May block.
    package init(
        hypervisor: any Hypervisor, interval: Duration = .seconds(1), settling: Duration = .seconds(5),
        space: @escaping @Sendable (_ path: String) -> FileSystemSpace? = { FullDisks.space(of: $0) }, logger: Logger
    ) {
        self.hypervisor = hypervisor
        self.interval = interval
        self.settling = settling
        self.space = space
        self.logger = logger
    }

    deinit { state.withLock { $0.work }?.cancel() }

    /// A device, as a thin pool's, says nothing of its room, and the file system that its node is in has nothing to do with it: the guest's
    /// next write tells.
    package static func space(of path: String) -> FileSystemSpace? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        if status.st_mode & S_IFMT == S_IFBLK { return FileSystemSpace(id: .init(device: UInt64(status.st_rdev)), available: .max) }
        return try? FileSystemSpace(of: path)
    }

    /// From now on the machine is let go on when its disk has stopped it. Others' machines are left alone.
    package func watch(_ disk: String, of id: MachineID) {
        state.withLock { state in
            if state.machines[id] == nil { state.machines[id] = Watched(disk: disk) }
        }
    }

    package func forget(_ id: MachineID) {
        let listeners = state.withLock { $0.machines.removeValue(forKey: id)?.listeners ?? [:] }
        for listener in listeners.values { listener.finish() }
    }

    /// Leaves a machine stopped, whatever room there is, until it is let go.
    package func hold(_ id: MachineID) { state.withLock { $0.machines[id]?.isHeld = true } }

    package func letGo(_ id: MachineID) { state.withLock { $0.machines[id]?.isHeld = false } }

    package func halt(of id: MachineID) -> SandboxHalt? { state.withLock { $0.machines[id]?.halt } }

    /// The machine's halt of the moment, and each change of it; ends when the machine is forgotten.
    package func halts(of id: MachineID) -> AsyncStream<SandboxHalt?> {
        let (stream, continuation) = AsyncStream.makeStream(of: SandboxHalt?.self, bufferingPolicy: .bufferingNewest(1))
        let key: UInt64? = state.withLock { state in
            guard let machine = state.machines[id] else { return nil }
            state.nextListener += 1
            state.machines[id]?.listeners[state.nextListener] = continuation
            continuation.yield(machine.halt)
            return state.nextListener
        }
        guard let key else {
            continuation.finish()
            return stream
        }
        continuation.onTermination = { [weak self] _ in
            _ = self?.state.withLock { $0.machines[id]?.listeners.removeValue(forKey: key) }
        }
        return stream
    }

    /// Takes in that a machine is stopped, or will be in a moment.
    ///
    /// - Parameter path: what had no room; nil, or empty: not known, and its root disk is taken for it.
    package func stopped(_ id: MachineID, at path: String? = nil) {
        let disk: String? = state.withLock { state in
            guard var machine = state.machines[id] else { return nil }
            machine.reports += 1
            machine.reportedAt = .now
            let isNew = machine.halt == nil
            noteStop(&machine)
            let disk = path.flatMap { $0.isEmpty ? nil : $0 } ?? (machine.full.isEmpty ? machine.disk : nil)
            if let disk, !machine.full.contains(disk) { machine.full.append(disk) }
            if isNew {
                let halt = SandboxHalt(
                    reason: "the file system of \(disk ?? machine.disk) is full: its machine is stopped until "
                        + "\(Self.roomForEach >> 20) MiB are available there",
                    since: WallClock.now())
                machine.halt = halt
                for listener in machine.listeners.values { listener.yield(halt) }
            }
            state.machines[id] = machine
            if state.work == nil {
                state.work = Task { [weak self] in await Self.work(self?.interval ?? .zero) { await self?.look() ?? false } }
            }
            return isNew ? disk ?? machine.disk : nil
        }
        guard let disk else { return }
        logger.error("machine stopped: no room for its disk", metadata: ["machine": "\(id)", "disk": "\(disk)"])
    }

    private func noteStop(of id: MachineID) {
        state.withLock { state in
            guard var machine = state.machines[id] else { return }
            noteStop(&machine)
            state.machines[id] = machine
        }
    }

    /// Whether it is the same want of room that has stopped the machine again.
    private func noteStop(_ machine: inout Watched) {
        guard let resumedAt = machine.resumedAt else {
            // Further reports of one stop change nothing.
            if machine.halt == nil { (machine.relapses, machine.nextResume) = (0, nil) }
            return
        }
        machine.resumedAt = nil
        guard resumedAt.duration(to: .now) < settling else {
            (machine.relapses, machine.nextResume) = (0, nil)
            return
        }
        machine.nextResume = .now + min(interval * (1 << min(machine.relapses, 6)), Self.longestPause)
        machine.relapses += 1
    }

    private static let longestPause = Duration.seconds(60)

    private static func work(_ interval: Duration, _ look: () async -> Bool) async {
        repeat {
            do { try await Task.sleep(for: interval) } catch { return }
        } while await look()
    }

    /// Looks at all that are stopped, those that stopped first before the others.
    ///
    /// - Returns: whether to look again.
    private func look() async -> Bool {
        let stopped: [(id: MachineID, machine: Watched)] = state.withLock { state in
            let stopped = state.machines.filter { $0.value.halt != nil }
            if stopped.isEmpty { state.work = nil }
            return stopped.sorted { ($0.value.halt?.since ?? 0) < ($1.value.halt?.since ?? 0) }.map { ($0.key, $0.value) }
        }
        var given: [FileSystemSpace.ID: UInt64] = [:]
        for (id, machine) in stopped {
            do {
                switch try await hypervisor.machine(id)?.state {
                case .diskFull where state.withLock({ $0.machines[id]?.isHeld == false }):
                    // It stopped again and no event came.
                    if machine.resumedAt != nil { noteStop(of: id) }
                    guard state.withLock({ ($0.machines[id]?.nextResume ?? .now) <= .now }) else { continue }
                    let (space, full) = (space, machine.full)
                    let spaces = await OwnThread.answer { full.map { space($0) } }
                    let asked = Dictionary(spaces.compactMap { $0.map { ($0.id, $0.available) } }) { min($0, $1) }
                    let short = asked.filter { given[$0.key, default: 0] + Self.roomForEach > $0.value }.keys
                    guard !spaces.contains(nil), short.isEmpty else {
                        // Room that appears during this look is not for those that stopped later.
                        for disk in short { given[disk] = .max / 2 }
                        continue
                    }
                    for disk in asked.keys { given[disk, default: 0] += Self.roomForEach }
                    state.withLock { $0.machines[id]?.resumedAt = .now }
                    do {
                        try await hypervisor.resume(id)
                    } catch {
                        state.withLock { if $0.machines[id]?.reports == machine.reports { $0.machines[id]?.resumedAt = nil } }
                        throw error
                    }
                    // One that stopped again at once before has to show that it does not.
                    if machine.relapses == 0 { goesOn(id, unlessReportedSince: machine.reports) }
                case .running where max(machine.reportedAt + interval, (machine.resumedAt ?? machine.reportedAt) + settling) < .now:
                    goesOn(id, unlessReportedSince: machine.reports)
                default: continue
                }
            } catch {
                logger.warning("stopped machine not looked at", metadata: ["machine": "\(id)", "error": "\(error)"])
            }
        }
        return !stopped.isEmpty
    }

    private func goesOn(_ id: MachineID, unlessReportedSince reports: Int) {
        let goesOn = state.withLock { state in
            guard let machine = state.machines[id], machine.halt != nil, machine.reports == reports else { return false }
            state.machines[id]?.halt = nil
            state.machines[id]?.full = []
            for listener in machine.listeners.values { listener.yield(nil) }
            return true
        }
        if goesOn { logger.notice("machine goes on: there is room for its disk", metadata: ["machine": "\(id)"]) }
    }
}

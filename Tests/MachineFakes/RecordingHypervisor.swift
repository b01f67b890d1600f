import Errors
import Linux
import Machines
import Synchronization

/// A hypervisor without machines: it records what is asked of it, and fails or hangs where it is told to.
///
/// Its machines have no process. What the real one promises of repetition holds here too: starting, attaching, detaching and
/// destroying are idempotent.
public final class RecordingHypervisor: Hypervisor {
    public enum Step: String, Sendable, CaseIterable {
        case start, machine, machines, destroy, attach, detach, grow, balloon, pause, resume, shutdown, reset, reboot, resizeDisk
        case screenshot, domainXML, statistics, lastEnd, removeLog, save, restore
    }

    public enum Call: Sendable, Equatable {
        case start(MachineSpec)
        case machine(MachineID)
        case machines
        case destroy(MachineID)
        case attach([DeviceID], MachineID)
        case detach([DeviceID], MachineID)
        case grow(MachineID, MachineExtent)
        case balloon(MachineID, UInt64)
        case pause(MachineID)
        case resume(MachineID)
        case shutdown(MachineID)
        case reset(MachineID)
        case reboot(MachineID)
        case resizeDisk(String, MachineID, UInt64)
        case screenshot(MachineID)
        case domainXML(MachineID)
        case statistics(MachineID)
        case lastEnd(String)
        case removeLog(String)
        case save(MachineID, String)
        case restore(SavedMachine)

        public var step: Step {
            switch self {
            case .start: .start
            case .machine: .machine
            case .machines: .machines
            case .destroy: .destroy
            case .attach: .attach
            case .detach: .detach
            case .grow: .grow
            case .balloon: .balloon
            case .pause: .pause
            case .resume: .resume
            case .shutdown: .shutdown
            case .reset: .reset
            case .reboot: .reboot
            case .resizeDisk: .resizeDisk
            case .screenshot: .screenshot
            case .domainXML: .domainXML
            case .statistics: .statistics
            case .lastEnd: .lastEnd
            case .removeLog: .removeLog
            case .save: .save
            case .restore: .restore
            }
        }
    }

    /// What a step does instead of succeeding.
    public enum Fault: Sendable, Equatable {
        /// Nothing happens.
        case fail(SwiftletError.Code)
        /// It happens, and is reported as failed: a call that comes through after its deadline.
        case failAfterwards(SwiftletError.Code)
        /// Nothing happens and nothing returns, until the caller is cancelled.
        case hang
        /// It happens when the step is healed, whoever is cancelled meanwhile.
        case hold
    }

    private struct Running {
        var spec: MachineSpec
        var state: Machine.State
        var devices: [DeviceID]
        var extent: MachineExtent
        var balloon: UInt64?
        var statistics = MachineStatistics()
        var ignoresPowerButton = false
    }

    private struct State {
        var calls: [Call] = []
        var faults: [Step: (fault: Fault, left: Int)] = [:]
        var running: [MachineID: Running] = [:]
        var saved: [String: Running] = [:]
        /// By name: what libvirt's log would tell.
        var ends: [String: MachineEnd] = [:]
        var listeners: [AsyncStream<MachineEvent>.Continuation] = []
        var isClosed = false
        var killed: Set<MachineID> = []
    }

    private let state = Mutex(State())
    private let onStart: @Sendable (MachineSpec) async throws -> Void
    private let onEnd: @Sendable (MachineID) -> Void

    /// - Parameters:
    ///   - onStart: runs in each start, before the machine counts as running: brings up what stands for its guest.
    ///   - onEnd: runs when a machine has ended.
    public init(
        onStart: @escaping @Sendable (MachineSpec) async throws -> Void = { _ in },
        onEnd: @escaping @Sendable (MachineID) -> Void = { _ in }
    ) {
        self.onStart = onStart
        self.onEnd = onEnd
    }

    // MARK: What tests say and see

    /// From now on the step has this fault, the given number of times.
    public func inject(_ fault: Fault, at step: Step, times: Int = .max) {
        state.withLock { $0.faults[step] = (fault, times) }
    }

    public func heal(_ step: Step) { _ = state.withLock { $0.faults.removeValue(forKey: step) } }

    public var calls: [Call] { state.withLock { $0.calls } }
    public func calls(_ step: Step) -> [Call] { calls.filter { $0.step == step } }
    /// Those that were ended at once.
    public var killed: Set<MachineID> { state.withLock { $0.killed } }
    public var running: Set<MachineID> { state.withLock { Set($0.running.keys) } }
    public func spec(of id: MachineID) -> MachineSpec? { state.withLock { $0.running[id]?.spec } }
    /// What the machine has, from its start or plugged in since, in this order.
    public func devices(of id: MachineID) -> [DeviceID] { state.withLock { $0.running[id]?.devices ?? [] } }

    /// Ends a machine as its guest would.
    ///
    /// - Parameter reported: false: the event is lost.
    public func end(_ id: MachineID, _ end: MachineEnd = .poweredOff, reported: Bool = true) {
        let existed = state.withLock { state in
            guard let machine = state.running.removeValue(forKey: id) else { return false }
            state.ends[machine.spec.name] = end
            return true
        }
        if existed { onEnd(id) }
        if existed, reported { send(.stopped(id, end)) }
    }

    /// Whether the guest does nothing when the power button is pressed.
    public func ignorePowerButton(of id: MachineID, _ ignores: Bool = true) {
        state.withLock { $0.running[id]?.ignoresPowerButton = ignores }
    }

    /// What `statistics` answers from now on.
    public func setStatistics(_ statistics: MachineStatistics, of id: MachineID) {
        state.withLock { $0.running[id]?.statistics = statistics }
    }

    /// Stops a machine as QEMU does when the file of its disk cannot grow.
    ///
    /// - Parameter reported: false: the event is lost.
    public func fillDisk(of id: MachineID, reported: Bool = true, path: String = "/") {
        state.withLock { $0.running[id]?.state = .diskFull }
        if reported { send(.diskFull(id, path: path)) }
    }

    /// Pauses a machine as somebody does while no event is reported.
    public func pauseUnseen(_ id: MachineID) { state.withLock { $0.running[id]?.state = .paused } }

    public func send(_ event: MachineEvent) {
        let listeners = state.withLock { $0.listeners }
        for listener in listeners { listener.yield(event) }
    }

    // MARK: Hypervisor

    public func start(_ spec: MachineSpec) async throws -> Machine {
        try await perform(.start(spec)) {
            if let running = self.find(spec.id) { return running }
            try spec.validate()
            try await self.onStart(spec)
            let running = Running(
                spec: spec, state: .running, devices: spec.devices.map(\.id),
                extent: MachineExtent(memoryBytes: spec.shape.memoryBytes, vcpus: spec.shape.vcpus))
            self.state.withLock { $0.running[spec.id] = running }
            return Machine(id: spec.id, name: spec.name, state: .running, process: nil)
        }
    }

    public func machine(_ id: MachineID) async throws -> Machine? {
        try await perform(.machine(id)) { self.find(id) }
    }

    public func machines() async throws -> [Machine] {
        try await perform(.machines) { self.running.compactMap { self.find($0) } }
    }

    public func destroy(_ id: MachineID, process: ProcessIdentity?, atOnce: Bool) async throws {
        if atOnce { state.withLock { _ = $0.killed.insert(id) } }
        try await perform(.destroy(id)) { self.end(id, .destroyed) }
    }

    @discardableResult
    public func attach(_ devices: [MachineDevice], to id: MachineID) async throws -> [DeviceID] {
        for device in devices { try device.validate() }
        return try await perform(.attach(devices.map(\.id), id)) {
            try self.change(id) { machine in
                let added = devices.map(\.id).filter { !machine.devices.contains($0) }
                machine.devices += added
                return added
            }
        }
    }

    public func detach(_ devices: [DeviceID], from id: MachineID) async throws {
        try await perform(.detach(devices, id)) {
            try self.change(id) { $0.devices.removeAll { devices.contains($0) } }
        }
    }

    public func grow(_ id: MachineID, to extent: MachineExtent) async throws -> MachineExtent {
        try await perform(.grow(id, extent)) {
            try self.change(id) { machine in
                machine.extent.memoryBytes = max(machine.extent.memoryBytes, extent.memoryBytes)
                machine.extent.vcpus = max(machine.extent.vcpus, extent.vcpus)
                return machine.extent
            }
        }
    }

    public func balloon(_ id: MachineID, to bytes: UInt64) async throws {
        try await perform(.balloon(id, bytes)) { try self.change(id) { $0.balloon = bytes } }
    }

    public func pause(_ id: MachineID) async throws {
        try await perform(.pause(id)) {
            try self.change(id) { $0.state = .paused }
            self.send(.pauseChanged(id))
        }
    }

    public func resume(_ id: MachineID) async throws {
        try await perform(.resume(id)) {
            try self.change(id) { $0.state = .running }
            self.send(.pauseChanged(id))
        }
    }

    public func shutdown(_ id: MachineID) async throws {
        try await perform(.shutdown(id)) {
            if try !self.change(id, { $0.ignoresPowerButton }) { self.end(id) }
        }
    }

    public func reset(_ id: MachineID) async throws {
        try await perform(.reset(id)) {
            try self.change(id) { _ in }
            self.send(.rebooted(id))
        }
    }

    public func reboot(_ id: MachineID) async throws {
        try await perform(.reboot(id)) {
            if try !self.change(id, { $0.ignoresPowerButton }) { self.send(.rebooted(id)) }
        }
    }

    public func resizeDisk(_ serial: String, of id: MachineID, to bytes: UInt64) async throws {
        try await perform(.resizeDisk(serial, id, bytes)) {
            try self.change(id) { machine in
                guard machine.devices.contains(.disk(serial: serial)) else { throw SwiftletError(.notFound, "disk \(serial)") }
                var disk = machine.statistics.disks[serial] ?? MachineStatistics.Disk()
                guard bytes >= disk.capacity else { throw SwiftletError(.invalidArgument, "\(bytes) is less than \(disk.capacity)") }
                disk.capacity = bytes
                machine.statistics.disks[serial] = disk
            }
        }
    }

    /// The signature of a PNG.
    public func screenshot(_ id: MachineID) async throws -> [UInt8] {
        try await perform(.screenshot(id)) {
            try self.change(id) { _ in }
            return [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
        }
    }

    public func domainXML(_ id: MachineID) async throws -> String {
        try await perform(.domainXML(id)) { try DomainBlueprint().xml(self.change(id) { $0.spec }) }
    }

    public func statistics(_ id: MachineID) async throws -> MachineStatistics {
        try await perform(.statistics(id)) { try self.change(id) { $0.statistics } }
    }

    public func lastEnd(ofMachineNamed name: String) async -> MachineEnd? {
        try? await perform(.lastEnd(name)) { self.state.withLock { $0.ends[name] } }
    }

    public func removeLog(ofMachineNamed name: String) async {
        try? await perform(.removeLog(name)) { _ = self.state.withLock { $0.ends.removeValue(forKey: name) } }
    }

    public func save(_ id: MachineID, to path: String) async throws -> SavedMachine {
        try await perform(.save(id, path)) {
            let machine = try self.change(id) { machine in
                let blocking = machine.devices.filter { if case .filesystem = $0 { true } else { $0 == .vsock } }
                if let device = blocking.first { throw SwiftletError(.failedPrecondition, "save: \(device) cannot be saved") }
                return machine
            }
            self.state.withLock { $0.saved[path] = machine }
            self.end(id, .saved)
            return SavedMachine(id: id, name: machine.spec.name, path: path)
        }
    }

    public func restore(_ saved: SavedMachine) async throws -> Machine {
        try await perform(.restore(saved)) {
            try self.state.withLock { state in
                guard state.running[saved.id] == nil else { throw SwiftletError(.alreadyExists, "restore: \(saved.name) runs") }
                guard let machine = state.saved[saved.path] else { throw SwiftletError(.notFound, "restore: \(saved.path)") }
                state.running[saved.id] = machine
            }
            return Machine(id: saved.id, name: saved.name, state: .running, process: nil)
        }
    }

    public func events() -> AsyncStream<MachineEvent> {
        let (stream, continuation) = AsyncStream.makeStream(of: MachineEvent.self)
        let isClosed = state.withLock { state in
            if !state.isClosed { state.listeners.append(continuation) }
            return state.isClosed
        }
        if isClosed { continuation.finish() }
        return stream
    }

    public func close() async {
        let listeners = state.withLock { state in
            state.isClosed = true
            return state.listeners
        }
        for listener in listeners { listener.finish() }
    }

    // MARK: Steps

    /// Records the call and does what is asked, or what was injected.
    private func perform<Value: Sendable>(_ call: Call, _ body: @Sendable () async throws -> Value) async throws -> Value {
        let fault: Fault? = state.withLock { state in
            state.calls.append(call)
            guard let (fault, left) = state.faults[call.step], left > 0 else { return nil }
            state.faults[call.step] = (fault, left - 1)
            return fault
        }
        switch fault {
        case nil: return try await body()
        case .fail(let code): throw SwiftletError(code, "\(call.step.rawValue): injected")
        case .failAfterwards(let code):
            _ = try await body()
            throw SwiftletError(code, "\(call.step.rawValue): injected afterwards")
        case .hang:
            try await Task.sleep(for: .seconds(3600))
            throw SwiftletError(.deadlineExceeded, "\(call.step.rawValue): hung for an hour")
        case .hold:
            while state.withLock({ $0.faults[call.step]?.fault == .hold }) { try? await Task.sleep(for: .milliseconds(1)) }
            return try await body()
        }
    }

    private func find(_ id: MachineID) -> Machine? {
        state.withLock { $0.running[id].map { Machine(id: id, name: $0.spec.name, state: $0.state, process: nil) } }
    }

    private func change<Value: Sendable>(_ id: MachineID, _ body: (inout Running) throws -> Value) throws -> Value {
        try state.withLock { state in
            guard var machine = state.running[id] else { throw SwiftletError(.notFound, "machine \(id) does not run") }
            defer { state.running[id] = machine }
            return try body(&machine)
        }
    }
}

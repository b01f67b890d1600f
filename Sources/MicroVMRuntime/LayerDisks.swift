import Concurrency
import Errors
import Linux
import Machines
import Runtime
import State
import Synchronization

/// What the release of the layers that a container uses needs. The entry's name is "MACHINE/CONTAINER".
struct LayerDisksDocument: StoredDocument {
    static let what = "ledger document of a container's layers"

    /// Of the disks.
    var serials: [String]
    /// QEMU: once it is gone there is nothing to unplug.
    var process: ProcessIdentity?
    /// Those of them that containers use whom no ledger lists.
    var kept: [String]?
}

/// The layer disks of one machine, and the containers that use each. A disk is plugged in with its first user and unplugged with its
/// last; the containers' holds on their images outlast it.
final class LayerDisks: Sendable {
    private struct State {
        /// Containers by the serial that they use.
        var users: [String: Set<String>] = [:]
        /// Known to be plugged in.
        var present: Set<String> = []
        /// Were there before anybody of whom is known: used by containers that an earlier release of the daemon made. They stay until
        /// the machine ends.
        var kept: Set<String> = []
        /// Whether the machine is an earlier daemon's.
        var isRestored = false
    }

    let machine: MachineID
    private let process: ProcessIdentity?
    private let hypervisor: any Hypervisor
    private let state = Mutex(State())
    /// A disk must not be unplugged for one container while it is found plugged in for the next.
    private let changes = SerialQueue()

    init(machine: MachineID, process: ProcessIdentity?, hypervisor: any Hypervisor) {
        self.machine = machine
        self.process = process
        self.hypervisor = hypervisor
    }

    /// Takes in what the ledger lists of an earlier daemon.
    func restore(_ entries: [LedgerEntry]) throws {
        state.withLock { $0.isRestored = true }
        for entry in entries {
            guard let (machine, container) = Self.parse(entry.name), machine == self.machine else { continue }
            let document = try entry.decoded(LayerDisksDocument.self)
            state.withLock { state in
                for serial in document.serials { state.users[serial, default: []].insert(container) }
                state.kept.formUnion(document.kept ?? [])
            }
        }
    }

    /// Plugs in what of a container's layers is not there yet, all in one call.
    ///
    /// - Parameter ledger: the container's; what it uses is written down there first.
    func attach(_ layers: [LayerImage], for container: String, ledger: Ledger) async throws {
        var serials: Set<String> = []
        let layers = layers.filter { serials.insert($0.serial).inserted }
        guard !layers.isEmpty else { return }
        let document = LayerDisksDocument(serials: serials.sorted(), process: process)
        let (disks, names) = (layers.map { DiskSpec(path: $0.path, serial: $0.serial, readOnly: true) }, serials)
        try await ledger.note(.layerDisks, Self.name(machine, container), document)
        try await changes.run { [self] in
            let (unknown, areThere) = state.withLock { state in
                let unknown = names.filter { state.users[$0] == nil }
                for serial in names { state.users[serial, default: []].insert(container) }
                return (unknown, state.present.isSuperset(of: names))
            }
            let added: [DeviceID]
            do {
                // There is nothing to ask for where a container of the image runs already.
                added = areThere ? [] : try await hypervisor.attach(disks.map { .disk($0) }, to: machine)
            } catch {
                // Which of them were there before is not known: of an earlier daemon's machine they stay.
                state.withLock { if $0.isRestored { $0.kept.formUnion(unknown) } }
                throw error
            }
            let kept = state.withLock { state in
                state.present.formUnion(names)
                state.kept.formUnion(unknown.filter { !added.contains(.disk(serial: $0)) })
                return names.intersection(state.kept).sorted()
            }
            guard !kept.isEmpty else { return }
            var document = document
            document.kept = kept
            try await ledger.note(.layerDisks, Self.name(machine, container), document)
        }
    }

    /// Unplugs the disks that only this container used. Idempotent; needs no help of the guest.
    func release(_ container: String) async throws {
        try await changes.run { [self] in
            let unused = state.withLock { state in
                state.users.filter { $0.value == [container] && !state.kept.contains($0.key) }.map(\.key)
            }
            state.withLock { $0.present.subtract(unused) }
            if !unused.isEmpty, process?.isAlive != false {
                do {
                    try await hypervisor.detach(unused.sorted().map { .disk(serial: $0) }, from: machine)
                } catch let error as SwiftletError where error.code == .notFound {
                    // The machine is gone, and its disks with it.
                }
            }
            state.withLock { state in
                for serial in state.users.keys { state.users[serial]?.remove(container) }
                state.users = state.users.filter { !$0.value.isEmpty }
            }
        }
    }

    // MARK: Names

    static func name(_ machine: MachineID, _ container: String) -> String { "\(machine)/\(container)" }

    static func parse(_ name: String) -> (machine: MachineID, container: String)? {
        let parts = name.split(separator: "/", maxSplits: 1)
        guard parts.count == 2, let machine = MachineID(String(parts[0])) else { return nil }
        return (machine, String(parts[1]))
    }
}

/// The layer disks of the machines that this daemon has started or found again.
final class LayerDiskTable: Sendable {
    private let hypervisor: any Hypervisor
    private let machines = Mutex<[MachineID: LayerDisks]>([:])

    init(hypervisor: any Hypervisor) { self.hypervisor = hypervisor }

    /// Those of a machine; made anew when it is not known yet.
    func disks(of machine: MachineID, process: ProcessIdentity?) -> LayerDisks {
        machines.withLock { machines in
            if let known = machines[machine] { return known }
            let disks = LayerDisks(machine: machine, process: process, hypervisor: hypervisor)
            machines[machine] = disks
            return disks
        }
    }

    /// The machine has ended.
    func forget(_ machine: MachineID) { _ = machines.withLock { $0.removeValue(forKey: machine) } }

    /// Releases the layers of one container.
    func release(_ entry: LedgerEntry) async throws {
        guard let (machine, container) = LayerDisks.parse(entry.name) else {
            throw SwiftletError(.dataLoss, "the ledger names layers \(entry.name), which is not MACHINE/CONTAINER")
        }
        if let disks = machines.withLock({ $0[machine] }) { return try await disks.release(container) }
        // A machine that nobody knows is one that has ended, or one of an earlier daemon that is not found again yet.
        if let process = try entry.decoded(LayerDisksDocument.self).process, !process.isAlive { return }
        guard try await hypervisor.machine(machine) == nil else {
            throw SwiftletError(.unavailable, "machine \(machine) runs and has not been found again yet: its disks stay plugged in")
        }
    }
}

import AgentClient
import AgentProtocol
import Errors
import Machines
import PodMachine
import Runtime

extension MicroVMSandbox {
    func updateContainer(_ id: String, from old: LinuxResources, to new: LinuxResources) async throws {
        let files = new.cgroupFiles(replacing: old)
        guard !files.isEmpty else { return }
        let request = AgentUpdateContainerRequest.with {
            $0.containerID = id
            $0.resources.unified = files
        }
        _ = try await link.client().call(.updateContainer, request, timeout: .seconds(25))
    }

    func fit(_ demand: PodDemand) async throws {
        let wanted = try await handler.extent(for: demand, in: ledger)
        let size = try await grow(to: wanted)
        var limits = PodCgroup.limits(demand)
        // A machine that has grown keeps its memory: a lower limit would kill QEMU.
        if let memory = limits?.memory, size.actual.memoryBytes > wanted.memoryBytes {
            limits?.memory = max(memory, size.actual.memoryBytes + MicroVMConfiguration.emulatorMemory)
        }
        // Given up after its deadline, it must not undo what a later one has set meanwhile.
        try Task.checkCancellation()
        if let limits { try await limiter.set(limits) }
    }

    /// Nothing is asked of the machine as long as it has been asked for as much before. Right after a restart of the daemon,
    /// and after a growth that failed, perhaps half-way, libvirt is asked.
    private func grow(to wanted: MachineExtent) async throws -> MachineSize {
        let (known, growth) = size.withLock { ($0.size, $0.begin()) }
        if let known, known.asked.contains(wanted) { return known }
        do {
            let grown = try await perform(wanted)
            return size.withLock { $0.ended(growth, asked: wanted, grown) }
        } catch {
            size.withLock { $0.failed() }
            throw error
        }
    }

    private func perform(_ wanted: MachineExtent) async throws -> MachineExtent {
        let grown = try await handler.hypervisor.grow(names.machine, to: wanted)
        // libvirt puts a new vCPU's thread into a control group of its own making.
        try await PodCgroup.place(ledger)
        let answer = try await link.client().call(.grow, .with { $0.cpus = UInt32(clamping: grown.vcpus) }, timeout: .seconds(20))
        guard answer.cpus >= UInt32(clamping: grown.vcpus) else {
            throw SwiftletError(.deadlineExceeded, "the guest uses \(answer.cpus) of \(grown.vcpus) vCPUs")
        }
        logger.info("machine grown", metadata: ["domain": "\(names.domain)", "memory": "\(grown.memoryBytes)", "vcpus": "\(grown.vcpus)"])
        return grown
    }
}

/// How large a machine is, and how large it was asked to be: an emulated one has fewer vCPUs than that.
struct MachineSize: Sendable, Equatable {
    /// The largest that was asked for.
    var asked: MachineExtent
    /// What the machine had then.
    var actual: MachineExtent
}

/// What is known of a machine's size. A growth that ran into its deadline may end during a later one.
struct MachineSizeCache: Sendable {
    /// Nil when libvirt has to be asked.
    private(set) var size: MachineSize?
    private var failures = 0

    init(_ size: MachineSize? = nil) { self.size = size }

    /// - Returns: to be handed to `ended`.
    func begin() -> Int { failures }

    /// Takes in what libvirt said. A machine never shrinks, so that the larger holds; what was said before another growth failed
    /// is not known to hold any more.
    mutating func ended(_ growth: Int, asked: MachineExtent, _ actual: MachineExtent) -> MachineSize {
        let before = size ?? MachineSize(asked: asked, actual: actual)
        let now = MachineSize(asked: before.asked.union(asked), actual: before.actual.union(actual))
        if growth == failures { size = now }
        return now
    }

    /// How far it got nobody knows.
    mutating func failed() {
        size = nil
        failures += 1
    }
}

extension MachineExtent {
    fileprivate func contains(_ other: MachineExtent) -> Bool { memoryBytes >= other.memoryBytes && vcpus >= other.vcpus }

    fileprivate func union(_ other: MachineExtent) -> MachineExtent {
        MachineExtent(memoryBytes: max(memoryBytes, other.memoryBytes), vcpus: max(vcpus, other.vcpus))
    }
}

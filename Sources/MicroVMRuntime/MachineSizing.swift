import Errors
import Linux
import Machines
import Runtime

extension MicroVMConfiguration {
    /// Bytes that QEMU and its helpers need on the node beside the guest's RAM: a RuntimeClass's overhead is for them first, and
    /// for the guest's kernel and agent with what is left.
    static let emulatorMemory: UInt64 = 96 << 20
    /// A machine's RAM is a multiple of this: a huge page.
    private static let memoryUnit: UInt64 = 2 << 20
    /// Linux boots with this much.
    private static let leastMemory: UInt64 = 128 << 20

    /// The size of a machine that holds the pod: RAM for what its containers may use and what the guest needs itself, vCPUs for
    /// its limit rounded up. Never more than the node has: what a limit allows beyond that can never be had.
    func extent(for demand: PodDemand) -> MachineExtent {
        MachineExtent(memoryBytes: memory(for: demand), vcpus: vcpus(for: demand))
    }

    /// The size of a machine that holds the pod as far as the control groups above it allow: a machine uses all of its RAM in time,
    /// and the node's kernel would kill QEMU for it.
    ///
    /// - Throws: `.failedPrecondition` with the numbers when no machine fits.
    func extent(for demand: PodDemand, within limit: ProcessCgroup.MemoryLimit?) throws -> MachineExtent {
        var extent = extent(for: demand)
        guard let limit, extent.memoryBytes + Self.emulatorMemory > limit.bytes else { return extent }
        let room = limit.bytes > Self.emulatorMemory ? (limit.bytes - Self.emulatorMemory) / Self.memoryUnit * Self.memoryUnit : 0
        guard room >= Self.leastMemory else {
            let (least, wanted) = (Self.leastMemory + Self.emulatorMemory, extent.memoryBytes + Self.emulatorMemory)
            throw SwiftletError(
                .failedPrecondition,
                "cgroup_parent: control group \(limit.group) has a memory limit of \(limit.bytes) bytes; a machine needs \(least) at least, "
                    + "and \(wanted) for this pod; set overhead.podFixed.memory of its RuntimeClass to "
                    + "\((wanted - min(wanted, demand.pod?.memoryCeiling ?? 0) + (1 << 20) - 1) >> 20)Mi, or raise the limit")
        }
        extent.memoryBytes = room
        return extent
    }

    /// What a machine that starts at `extent` may grow to.
    func growth(from extent: MachineExtent) -> MachineExtent {
        MachineExtent(memoryBytes: max(extent.memoryBytes, maximumMemory), vcpus: max(extent.vcpus, mostCPUs))
    }

    private func memory(for demand: PodDemand) -> UInt64 {
        let containers = demand.memory(unlimited: defaultMemory)
        // A pod that says nothing gets a machine of the default size, not of more.
        let saysNothing = demand.pod?.memoryCeiling == nil && demand.containers.allSatisfy { $0.memoryCeiling == nil }
        let wanted = saysNothing ? containers : min(containers, 1 << 50) + guestMemory(containers, demand.overhead)
        let rounded = (min(wanted, max(maximumMemory, defaultMemory)) + Self.memoryUnit - 1) / Self.memoryUnit * Self.memoryUnit
        return max(rounded, Self.leastMemory)
    }

    /// What the guest's kernel and agent need; the kernel's page descriptors take 1/64 of the memory they describe.
    private func guestMemory(_ containers: UInt64, _ overhead: LinuxResources?) -> UInt64 {
        let given = overhead?.memoryCeiling ?? 0
        let share = given > Self.emulatorMemory ? given - Self.emulatorMemory : 0
        return max(guestOverhead + min(containers, 1 << 50) / 32, share)
    }

    private func vcpus(for demand: PodDemand) -> Int {
        max(defaultCPUs, min(Int(clamping: demand.cpus), mostCPUs))
    }

    /// More vCPUs than the node has CPUs only wait for each other.
    public var mostCPUs: Int { max(defaultCPUs, min(maximumCPUs, nodeCPUs)) }
}

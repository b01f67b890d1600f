import Concurrency
import Errors
import Foundation
import Linux
import Machines
import Runtime

/// The pod's processes on the node stand in "<cgroup_parent>/<pod id>", where the kubelet's limits of the pod hold them. Without
/// a parent they stay where they were started.
extension MicroVMHandler {
    func acquireCgroup(_ names: MachineNames, _ spec: SandboxSpec, _ ledger: Ledger) async throws {
        guard !spec.cgroupParent.isEmpty else { return }
        let limits = cgroupLimits(spec.demand)
        do {
            let cgroup = try await OwnThread.run {
                try ProcessCgroup(parent: spec.cgroupParent, name: names.id, on: Cgroups.detect())
            }
            try await ledger.acquire(.cgroup, names.id, cgroup) {
                try await OwnThread.run {
                    try cgroup.create()
                    if let limits { try cgroup.apply(limits) }
                }
            }
        } catch {
            throw SwiftletError.wrap(error, "make the control group below \(spec.cgroupParent)")
        }
    }

    /// Moves the pod's processes, as the ledger lists them, into its control group, if it has one. To be done again after each
    /// new process, and when libvirt has made new threads.
    func placeInCgroup(_ ledger: Ledger) async throws {
        guard let entry = ledger.entry(.cgroup) else { return }
        var cgroup = try entry.decoded(ProcessCgroup.self)
        let processes = ledger.entries.compactMap(\.process)
        do {
            let left = try await OwnThread.run {
                let cgroups = try Cgroups.detect()
                return processes.flatMap { ProcessCgroup.machineGroups(of: $0, on: cgroups) }
            }
            if !Set(left).isSubset(of: cgroup.emptied) {
                cgroup.emptied = Array(Set(left).union(cgroup.emptied)).sorted()
                try await ledger.note(.cgroup, entry.name, cgroup)
            }
            let group = cgroup
            try await OwnThread.run {
                for process in processes { try group.place(process) }
            }
        } catch {
            throw SwiftletError.wrap(error, "move the pod's processes into its control group")
        }
    }

    /// The size of the pod's machine at its start.
    ///
    /// - Throws: `.failedPrecondition` when the control group that is to hold it is too small.
    func firstExtent(_ names: MachineNames, _ spec: SandboxSpec) async throws -> MachineExtent {
        guard !spec.cgroupParent.isEmpty else { return configuration.extent(for: spec.demand) }
        let limit = try await OwnThread.run {
            try ProcessCgroup(parent: spec.cgroupParent, name: names.id, on: Cgroups.detect()).memoryAbove
        }
        let extent = try configuration.extent(for: spec.demand, within: limit)
        let wanted = configuration.extent(for: spec.demand)
        if let limit, extent != wanted {
            logger.notice(
                "machine smaller than its pod asks for: its RuntimeClass's overhead is missing or too small",
                metadata: [
                    "pod": "\(names.id)", "memory": "\(extent.memoryBytes)", "wanted": "\(wanted.memoryBytes)", "limit": "\(limit.bytes)",
                    "group": "\(limit.group)",
                ])
        }
        return extent
    }

    /// What a machine may grow to for its pod: no further than the control groups above it allow at this moment.
    func extent(for demand: PodDemand, in ledger: Ledger) async throws -> MachineExtent {
        let wanted = configuration.extent(for: demand)
        guard let cgroup = try ledger.entry(.cgroup)?.decoded(ProcessCgroup.self) else { return wanted }
        let limit = await OwnThread.answer { cgroup.memoryAbove }
        // One that runs keeps its size where none would fit any more.
        return (try? configuration.extent(for: demand, within: limit)) ?? MachineExtent(memoryBytes: 0, vcpus: wanted.vcpus)
    }

    /// Why the pod's machine has ended when the node's kernel has killed a process of its control group for lack of memory.
    func memoryKill(_ ledger: Ledger) async -> String? {
        guard let cgroup = try? ledger.entry(.cgroup)?.decoded(ProcessCgroup.self) else { return nil }
        let (kills, limit) = await OwnThread.answer { (cgroup.memoryKills, cgroup.memoryAbove) }
        guard kills > 0 else { return nil }
        let whose = limit.map { "control group \($0.group) has a memory limit of \($0.bytes) bytes" } ?? "the node was out of memory"
        return "the node's kernel killed the machine's process for lack of memory: \(whose); "
            + "set overhead.podFixed.memory of the pod's RuntimeClass, or raise it"
    }

    /// The pod's limits with what the machine costs beside them; nil without an overhead, when only the kubelet can know them.
    func cgroupLimits(_ demand: PodDemand) -> CgroupLimits? {
        guard let overhead = demand.overhead else { return nil }
        let pod = demand.pod
        var limits = CgroupLimits()
        // What the machine has grown for must not be what QEMU is killed for.
        if pod?.memoryCeiling != nil, let given = overhead.memoryCeiling { limits.memory = demand.memory(unlimited: 0) + given }
        let shares = [pod, overhead].compactMap { $0?.cpuShares }.reduce(0, +)
        if let pod, pod.cpuQuota > 0, overhead.cpuQuota > 0 {
            limits.cpuQuota = Int64(clamping: (pod.milliCPUs + overhead.milliCPUs) * UInt64(limits.cpuPeriod) / 1000)
        }
        if shares > 0 {
            limits.cpuShares = min(shares, 262_144)
            limits.cpuWeight = LinuxResources.weight(ofShares: shares)
        }
        return limits
    }
}

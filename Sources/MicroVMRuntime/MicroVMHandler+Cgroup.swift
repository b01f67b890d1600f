import Concurrency
import Errors
import Foundation
import Linux
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

    /// Sets the limits on the pod's control group, if it has one.
    func limitCgroup(_ ledger: Ledger, _ limits: CgroupLimits?) async throws {
        guard let limits, let cgroup = try ledger.entry(.cgroup)?.decoded(ProcessCgroup.self) else { return }
        try await OwnThread.run { try cgroup.apply(limits) }
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

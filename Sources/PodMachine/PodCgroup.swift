import Concurrency
import Errors
import Linux
import Runtime

/// The processes of a pod's machine on the node stand in "<cgroup_parent>/<name>", where the kubelet's limits of the pod hold them. Without
/// a parent they stay where they were started.
package enum PodCgroup {
    /// - Parameter name: of the group: the id of whom the machine is.
    package static func acquire(_ name: String, below parent: String, _ limits: CgroupLimits?, _ ledger: Ledger) async throws {
        // It may be there already: a start that was begun with another machine goes on.
        guard !parent.isEmpty, ledger.entry(.cgroup) == nil else { return }
        do {
            let cgroup = try await OwnThread.run { try ProcessCgroup(parent: parent, name: name, on: Cgroups.detect()) }
            try await ledger.acquire(.cgroup, name, cgroup) {
                try await OwnThread.run {
                    try cgroup.create()
                    if let limits { try cgroup.apply(limits) }
                }
            }
        } catch {
            throw SwiftletError.wrap(error, "make the control group below \(parent)")
        }
    }

    /// Moves the processes that the ledger lists into its control group, if it has one. To be done again after each new process, and when
    /// libvirt has made new threads.
    package static func place(_ ledger: Ledger) async throws {
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

    /// Why the machine has ended when the node's kernel has killed a process of its control group for lack of memory.
    package static func memoryKill(_ ledger: Ledger) async -> String? {
        guard let cgroup = try? ledger.entry(.cgroup)?.decoded(ProcessCgroup.self) else { return nil }
        return await memoryKill(in: cgroup)
    }

    /// Why a machine in this control group has ended when the node's kernel has killed a process there for lack of memory.
    package static func memoryKill(in cgroup: ProcessCgroup) async -> String? {
        let (kills, limit) = await OwnThread.answer { (cgroup.memoryKills, cgroup.memoryAbove) }
        guard kills > 0 else { return nil }
        let whose = limit.map { "control group \($0.group) has a memory limit of \($0.bytes) bytes" } ?? "the node was out of memory"
        return "the node's kernel killed the machine's process for lack of memory: \(whose); "
            + "set overhead.podFixed.memory of the pod's RuntimeClass, or raise it"
    }

    /// The pod's limits with what the machine costs beside them; nil without an overhead, when only the kubelet can know them.
    package static func limits(_ demand: PodDemand) -> CgroupLimits? {
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

import Concurrency
import Errors
import Foundation
import Linux
import Machines
import PodMachine
import Runtime

/// A machine is no larger than the control groups above it allow.
extension MicroVMHandler {
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
}

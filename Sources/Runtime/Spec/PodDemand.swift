/// What a pod's machine has to be large enough for.
public struct PodDemand: Sendable, Equatable {
    /// Limits of the pod as a whole and what the node is to spend on it besides; nil: not said.
    public var pod: LinuxResources?
    public var overhead: LinuxResources?
    /// Limits of the containers that have not ended.
    public var containers: [LinuxResources]

    public init(pod: LinuxResources?, overhead: LinuxResources?, containers: [LinuxResources] = []) {
        self.pod = pod
        self.overhead = overhead
        self.containers = containers
    }

    /// Bytes that the containers may use together.
    ///
    /// - Parameter unlimited: what counts for containers without a limit, all together, and for a pod that says nothing.
    package func memory(unlimited: UInt64) -> UInt64 {
        let declared = pod?.memoryCeiling ?? unlimited
        guard !containers.isEmpty else { return declared }
        let limits = containers.compactMap(\.memoryCeiling)
        let sum = limits.reduce(UInt64(0)) { $0.addingReportingOverflow($1).overflow ? .max : $0 + $1 }
        let rest = limits.count < containers.count ? unlimited : 0
        return max(declared, sum > .max - rest ? .max : sum + rest)
    }

    /// CPUs that the containers may keep busy together, rounded up; 0: not said.
    package var cpus: UInt64 {
        let sum = containers.reduce(UInt64(0)) { $0 + min($1.milliCPUs, 1 << 40) }
        return (max(min(pod?.milliCPUs ?? 0, 1 << 40), sum) + 999) / 1000
    }
}

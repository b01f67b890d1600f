/// Limits of a container or a pod as a client asked for them. 0 and empty mean that nothing was said.
public struct LinuxResources: Codable, Sendable, Equatable {
    public struct HugepageLimit: Codable, Sendable, Equatable {
        /// "2MB", "1GB".
        public var pageSize: String
        /// Bytes.
        public var limit: UInt64

        public init(pageSize: String, limit: UInt64) {
            self.pageSize = pageSize
            self.limit = limit
        }
    }

    /// Microseconds.
    public var cpuPeriod: Int64 = 0
    /// Microseconds of CPU time in each period; -1: no limit.
    public var cpuQuota: Int64 = 0
    /// Weight against others, 1024 for one CPU.
    public var cpuShares: Int64 = 0
    /// Bytes.
    public var memoryLimit: Int64 = 0
    /// Bytes of memory and swap together; -1: no limit.
    public var memorySwapLimit: Int64 = 0
    public var oomScoreAdjustment: Int64 = 0
    /// CPUs and memory nodes of the node, not of the guest: "0-3,8".
    public var cpusetCPUs = ""
    public var cpusetMemoryNodes = ""
    public var hugepageLimits: [HugepageLimit] = []
    /// cgroup v2 interface files and what to write to them. They beat the fields above.
    public var unified: [String: String] = [:]

    public init() {}

    /// These limits with everything replaced that `change` says. What a process was started with, its OOM score, stays.
    package func updated(by change: LinuxResources) -> LinuxResources {
        var result = self
        func take<Value: Equatable>(_ path: WritableKeyPath<LinuxResources, Value>, unless nothing: Value) {
            if change[keyPath: path] != nothing { result[keyPath: path] = change[keyPath: path] }
        }
        take(\.cpuPeriod, unless: 0)
        take(\.cpuQuota, unless: 0)
        take(\.cpuShares, unless: 0)
        take(\.memoryLimit, unless: 0)
        take(\.memorySwapLimit, unless: 0)
        take(\.cpusetCPUs, unless: "")
        take(\.cpusetMemoryNodes, unless: "")
        take(\.hugepageLimits, unless: [])
        result.unified.merge(change.unified) { _, new in new }
        return result
    }

    /// The default of the kernel and of OCI runtimes.
    package static let defaultPeriod: Int64 = 100_000

    /// Interface files of cgroup v2 that put the limits in force.
    public var cgroupFiles: [String: String] {
        var files: [String: String] = [:]
        if cpuShares > 0 { files["cpu.weight"] = "\(Self.weight(ofShares: cpuShares))" }
        if cpuQuota != 0 || cpuPeriod > 0 {
            files["cpu.max"] = "\(cpuQuota > 0 ? "\(cpuQuota)" : "max") \(cpuPeriod > 0 ? cpuPeriod : Self.defaultPeriod)"
        }
        if memoryLimit > 0 { files["memory.max"] = "\(memoryLimit)" }
        // cgroup v2 counts swap alone, the CRI swap and memory together, as cgroup v1 did.
        if memorySwapLimit > 0 { files["memory.swap.max"] = "\(memorySwapLimit - memoryLimit)" }
        if memorySwapLimit == -1 { files["memory.swap.max"] = "max" }
        return files.merging(unified) { _, unified in unified }
    }

    /// The files to write where `old` is in force: what differs, and the kernel's default for what is said no more.
    public func cgroupFiles(replacing old: LinuxResources) -> [String: String] {
        let (oldFiles, newFiles) = (old.cgroupFiles, cgroupFiles)
        let changed = newFiles.filter { oldFiles[$0.key] != $0.value }
        return oldFiles.keys.filter { newFiles[$0] == nil }.reduce(into: changed) { $0[$1] = Self.unlimited($1) }
    }

    /// What the kernel has in a file that was never written.
    private static func unlimited(_ file: String) -> String {
        switch file {
        case "cpu.weight": "100"
        case "cpu.max": "max \(defaultPeriod)"
        case "memory.min", "memory.low", "memory.oom.group", "cpu.idle", "cpu.max.burst": "0"
        case "cpuset.cpus", "cpuset.mems": "\n"
        default: "max"
        }
    }

    /// The conversion of cgroup v1 shares (2 to 262144) to v2 weights (1 to 10000) that OCI runtimes have in common.
    package static func weight(ofShares shares: Int64) -> Int64 {
        1 + (min(max(shares, 2), 262_144) - 2) * 9999 / 262_142
    }

    /// The conversion back, rounded up to the share that has the weight.
    package static func shares(ofWeight weight: Int64) -> Int64 {
        2 + ((min(max(weight, 1), 10_000) - 1) * 262_142 + 9998) / 9999
    }

    /// Bytes that may be used; nil: no limit.
    package var memoryCeiling: UInt64? {
        if let text = unified["memory.max"] { return CgroupSize(text)?.bytes }
        return memoryLimit > 0 ? UInt64(memoryLimit) : nil
    }

    /// Thousandths of CPUs that may be used: the quota, else what the weight asks for; 0 when neither is said.
    package var milliCPUs: UInt64 {
        let bandwidth = unified["cpu.max"].flatMap { CPUBandwidth($0) } ?? CPUBandwidth(quota: cpuQuota, period: cpuPeriod)
        if let quota = bandwidth.quota { return quota.multipliedReportingOverflow(by: 1000).partialValue / bandwidth.period }
        let shares = unified["cpu.weight"].flatMap { Int64($0) }.map(Self.shares) ?? cpuShares
        return UInt64(max(shares, 0)) * 1000 / 1024
    }
}

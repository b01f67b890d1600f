import CRI
import Errors
import Pods

/// Turns LinuxContainerResources into interface files of the guest's cgroup v2.
enum ResourcesRequest {
    private static let field = "config.linux.resources"

    static func add(_ resources: CRILinuxContainerResources, to spec: inout ContainerSpec) throws {
        spec.cgroup = try files(resources)
        guard let adjustment = Int32(exactly: resources.oomScoreAdj), (-1000...1000).contains(adjustment) else {
            throw SwiftletError(.invalidArgument, "\(field).oom_score_adj \(resources.oomScoreAdj) is not from -1000 to 1000")
        }
        spec.oomScoreAdjustment = adjustment
    }

    private static func files(_ resources: CRILinuxContainerResources) throws -> [String: String] {
        for (value, name) in [
            (resources.cpuPeriod, "cpu_period"), (resources.cpuShares, "cpu_shares"),
            (resources.memoryLimitInBytes, "memory_limit_in_bytes"),
        ] where value < 0 {
            throw SwiftletError(.invalidArgument, "\(field).\(name) \(value) is negative")
        }
        guard resources.hugepageLimits.isEmpty || resources.hugepageLimits.allSatisfy({ $0.limit == 0 }) else {
            throw SwiftletError(.unimplemented, "\(field).hugepage_limits: huge pages are not supported")
        }
        var files: [String: String] = [:]
        if resources.cpuShares > 0 { files["cpu.weight"] = String(weight(ofShares: resources.cpuShares)) }
        if resources.cpuQuota > 0 || resources.cpuPeriod > 0 {
            let quota = resources.cpuQuota > 0 ? String(resources.cpuQuota) : "max"
            files["cpu.max"] = "\(quota) \(resources.cpuPeriod > 0 ? resources.cpuPeriod : 100_000)"
        }
        if resources.memoryLimitInBytes > 0 { files["memory.max"] = String(resources.memoryLimitInBytes) }
        for (file, value) in resources.unified {
            guard !file.isEmpty, file.utf8.allSatisfy({ $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "_") || $0.isAlphanumeric }) else {
                throw SwiftletError(.invalidArgument, "\(field).unified: \(Validation.printable(file)) is no cgroup v2 interface file")
            }
            try Validation.text(value, "\(field).unified \(file)")
            files[file] = value
        }
        return files
    }

    /// The kernel's own conversion of cgroup v1 shares (2 to 262144) to v2 weights (1 to 10000), as runc does it.
    static func weight(ofShares shares: Int64) -> Int64 {
        1 + (min(max(shares, 2), 262_144) - 2) * 9999 / 262_142
    }
}

extension UInt8 {
    fileprivate var isAlphanumeric: Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(self)
            || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self)
    }
}

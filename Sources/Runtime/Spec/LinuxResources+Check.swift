import Errors

extension LinuxResources {
    /// Bytes that a process needs to be started at all.
    public static let leastMemory: Int64 = 1 << 20

    /// Checks every value, and what they mean together.
    ///
    /// - Parameter field: where the client wrote them, for the message: "config.linux.resources".
    /// - Throws: `.invalidArgument` naming the field, what is wrong and what is allowed.
    public func check(_ field: String) throws {
        try checkCPU(field)
        try checkMemory(field)
        try Self.require(
            (-1000...1000).contains(oomScoreAdjustment), "\(field).oom_score_adj \(oomScoreAdjustment) is not from -1000 to 1000")
        for (list, name) in [(cpusetCPUs, "cpuset_cpus"), (cpusetMemoryNodes, "cpuset_mems")] where !list.isEmpty {
            try Self.require(Self.isNumberList(list), "\(field).\(name) \(quoted(list)) is not a list as \"0-3,8\"")
        }
        for (file, value) in unified { try Self.checkUnified(file, value, field) }
    }

    private func checkCPU(_ field: String) throws {
        // Linux: min_cfs_quota_period and max_cfs_quota_period of kernel/sched/core.c.
        try Self.require(
            cpuPeriod == 0 || (1000...1_000_000).contains(cpuPeriod), "\(field).cpu_period \(cpuPeriod) us is not from 1000 to 1000000")
        // There: at least a millisecond, at most 44 bits of microseconds.
        try Self.require(
            cpuQuota == 0 || cpuQuota == -1 || (1000..<(1 << 44)).contains(cpuQuota),
            "\(field).cpu_quota \(cpuQuota) us is not from 1000 to \((1 << 44) - 1), nor -1 for no limit")
        // Linux: MIN_SHARES and MAX_SHARES.
        try Self.require(
            cpuShares == 0 || (2...262_144).contains(cpuShares), "\(field).cpu_shares \(cpuShares) is not from 2 to 262144")
    }

    private func checkMemory(_ field: String) throws {
        try Self.require(
            memoryLimit == 0 || (Self.leastMemory...(1 << 50)).contains(memoryLimit),
            "\(field).memory_limit_in_bytes \(memoryLimit) is not from \(Self.leastMemory), less than which starts no process, to 2^50")
        guard memorySwapLimit != 0, memorySwapLimit != -1 else { return }
        try Self.require(
            memoryLimit > 0, "\(field).memory_swap_limit_in_bytes \(memorySwapLimit) counts memory and swap; it needs memory_limit_in_bytes"
        )
        try Self.require(
            (memoryLimit...(1 << 50)).contains(memorySwapLimit),
            "\(field).memory_swap_limit_in_bytes \(memorySwapLimit) is not from memory_limit_in_bytes \(memoryLimit) to 2^50, nor -1 for no limit"
        )
    }

    private static func checkUnified(_ file: String, _ value: String, _ field: String) throws {
        let name = "\(field).unified \(quoted(file))"
        let isPlain = file.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "."), UInt8(ascii: "_"):
                true
            default: false
            }
        }
        try require(
            isPlain && file.utf8.count <= 64 && file.contains(".") && !file.hasPrefix("."),
            "\(name): this is no interface file of cgroup v2, as \"memory.high\" is")
        try require(
            !file.hasPrefix("cgroup.") || file.hasPrefix("cgroup.max."),
            "\(name): the container's cgroup itself is not the client's to change")
        try require(
            value.utf8.count <= 4096 && !value.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7F },
            "\(name): the value is too long or contains control characters")
        // What sizes the machine must mean here what it means in the guest.
        if file.hasPrefix("memory."), [".min", ".low", ".high", ".max"].contains(where: file.hasSuffix) {
            try require(
                CgroupSize(value) != nil, "\(name) \(quoted(value)) is no number of bytes, with K, M, G or T after it, nor max")
        }
        if file == "cpu.max" {
            try require(
                CPUBandwidth(value) != nil, "\(name) \(quoted(value)) is not as \"50000 100000\" or \"max\", in microseconds")
        }
        if file == "cpu.weight" {
            try require(
                Int64(value).map { (1...10_000).contains($0) } ?? false, "\(name) \(quoted(value)) is not from 1 to 10000")
        }
    }

    /// Numbers and ranges below 4096, as cpuset(7) writes lists.
    private static func isNumberList(_ text: String) -> Bool {
        guard text.utf8.count <= 4096 else { return false }
        return text.split(separator: ",", omittingEmptySubsequences: false).allSatisfy { part in
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { UInt16($0) }
            switch ends.count {
            case 1: return ends[0].map { $0 < 4096 } ?? false
            case 2:
                guard let first = ends[0], let last = ends[1] else { return false }
                return first <= last && last < 4096
            default: return false
            }
        }
    }

    private static func require(_ holds: Bool, _ problem: @autoclosure () -> String) throws {
        guard holds else { throw SwiftletError(.invalidArgument, problem()) }
    }
}

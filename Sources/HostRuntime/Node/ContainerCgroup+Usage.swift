import Linux
import Runtime

extension ContainerCgroup {
    /// What the kernel counts, by the files of either version.
    var usage: CgroupUsage {
        directories.reduce(into: CgroupUsage()) { usage, directory in
            let files = CgroupDirectory(path: directory.path)
            if directory.isUnified { files.addUnified(to: &usage) } else { files.addLegacy(to: &usage) }
        }
    }
}

/// Files of a control group. One that is not there counts as zero.
private struct CgroupDirectory {
    var path: String

    private func text(_ file: String) -> String? { KernelFile.text("\(path)/\(file)", limit: 32 << 10) }

    /// Nil for a missing file and for "max".
    private func number(_ file: String) -> UInt64? { text(file).flatMap { UInt64($0.prefix { $0 != "\n" }) } }

    private func keyed(_ file: String) -> [Substring: UInt64] {
        let lines = text(file)?.split(separator: "\n") ?? []
        let pairs = lines.compactMap { line -> (Substring, UInt64)? in
            let words = line.split(separator: " ")
            guard words.count == 2, let value = UInt64(words[1]) else { return nil }
            return (words[0], value)
        }
        return Dictionary(pairs) { first, _ in first }
    }

    /// Documentation/admin-guide/cgroup-v2.rst.
    func addUnified(to usage: inout CgroupUsage) {
        let (cpu, memory, events) = (keyed("cpu.stat"), keyed("memory.stat"), keyed("memory.events"))
        // A hierarchy beside those of version 1 counts nothing of this.
        if let time = cpu["usage_usec"], cpu["nr_periods"] != nil || number("cpu.weight") != nil {
            usage.cpu.usageUs = time
            (usage.cpu.userUs, usage.cpu.systemUs) = (cpu["user_usec"] ?? 0, cpu["system_usec"] ?? 0)
            (usage.cpu.periods, usage.cpu.throttledPeriods) = (cpu["nr_periods"] ?? 0, cpu["nr_throttled"] ?? 0)
            usage.cpu.throttledUs = cpu["throttled_usec"] ?? 0
        }
        if let weight = number("cpu.weight") { usage.cpu.weight = weight }
        if let maximum = text("cpu.max")?.split(whereSeparator: \.isWhitespace), maximum.count == 2 {
            usage.cpu.quotaUs = UInt64(maximum[0])
            usage.cpu.periodUs = UInt64(maximum[1]) ?? 0
        }
        if let used = number("memory.current") {
            usage.memory.usageBytes = used
            usage.memory.limitBytes = number("memory.max")
            usage.memory.lowBytes = number("memory.low") ?? 0
            usage.memory.peakBytes = number("memory.peak") ?? 0
            usage.memory.swapBytes = number("memory.swap.current") ?? 0
            usage.memory.swapLimitBytes = number("memory.swap.max")
            usage.memory.anonymousBytes = memory["anon"] ?? 0
            usage.memory.fileBytes = memory["file"] ?? 0
            usage.memory.inactiveFileBytes = memory["inactive_file"] ?? 0
            usage.memory.mappedFileBytes = memory["file_mapped"] ?? 0
            usage.memory.kernelBytes = memory["kernel"] ?? 0
            (usage.memory.pageFaults, usage.memory.majorPageFaults) = (memory["pgfault"] ?? 0, memory["pgmajfault"] ?? 0)
            (usage.memory.limitHits, usage.memory.oomEvents) = (events["max"] ?? 0, events["oom"] ?? 0)
            usage.memory.oomKills = events["oom_kill"] ?? 0
        }
        addThreads(to: &usage)
    }

    /// Documentation/admin-guide/cgroup-v1: nanoseconds of cpuacct, and "no limit" as the largest number of whole pages.
    func addLegacy(to usage: inout CgroupUsage) {
        if let nanoseconds = number("cpuacct.usage") {
            usage.cpu.usageUs = nanoseconds / 1000
            usage.cpu.userUs = (number("cpuacct.usage_user") ?? 0) / 1000
            usage.cpu.systemUs = (number("cpuacct.usage_sys") ?? 0) / 1000
        }
        if let shares = number("cpu.shares") { usage.cpu.weight = UInt64(LinuxResources.weight(ofShares: Int64(clamping: shares))) }
        if let period = number("cpu.cfs_period_us") {
            usage.cpu.periodUs = period
            usage.cpu.quotaUs = number("cpu.cfs_quota_us")
            let stat = keyed("cpu.stat")
            (usage.cpu.periods, usage.cpu.throttledPeriods) = (stat["nr_periods"] ?? 0, stat["nr_throttled"] ?? 0)
            usage.cpu.throttledUs = (stat["throttled_time"] ?? 0) / 1000
        }
        if let used = number("memory.usage_in_bytes") {
            let stat = keyed("memory.stat")
            usage.memory.usageBytes = used
            usage.memory.limitBytes = number("memory.limit_in_bytes").flatMap { $0 < 1 << 62 ? $0 : nil }
            usage.memory.peakBytes = number("memory.max_usage_in_bytes") ?? 0
            usage.memory.swapBytes = stat["total_swap"] ?? 0
            usage.memory.anonymousBytes = stat["total_rss"] ?? 0
            usage.memory.fileBytes = stat["total_cache"] ?? 0
            usage.memory.inactiveFileBytes = stat["total_inactive_file"] ?? 0
            usage.memory.mappedFileBytes = stat["total_mapped_file"] ?? 0
            usage.memory.kernelBytes = number("memory.kmem.usage_in_bytes") ?? 0
            (usage.memory.pageFaults, usage.memory.majorPageFaults) = (stat["total_pgfault"] ?? 0, stat["total_pgmajfault"] ?? 0)
            usage.memory.limitHits = number("memory.failcnt") ?? 0
            usage.memory.oomKills = keyed("memory.oom_control")["oom_kill"] ?? 0
        }
        addThreads(to: &usage)
    }

    private func addThreads(to usage: inout CgroupUsage) {
        guard let threads = number("pids.current") else { return }
        usage.threads = threads
        usage.threadsLimit = number("pids.max")
    }
}

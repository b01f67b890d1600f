import AgentProtocol

/// What a cgroup v2 directory says of its use and limits. A file that is not there counts as zeroes.
struct CgroupFiles {
    let path: String

    /// Bytes of one file that are read at most; memory.stat has about 1 KiB, io.stat a line per device.
    private static let longest = 32 << 10

    var stats: AgentCgroupStats {
        .with {
            $0.cpu = cpu
            $0.memory = memory
            $0.io = io
            $0.cpuPressure = pressure("cpu.pressure")
            $0.memoryPressure = pressure("memory.pressure")
            $0.ioPressure = pressure("io.pressure")
            $0.threads = number("pids.current") ?? 0
            if let limit = number("pids.max") { $0.threadsLimit = limit }
            $0.hugepages = hugepages
        }
    }

    private var cpu: AgentCpuStats {
        let stat = keyed("cpu.stat")
        return .with {
            $0.usageUs = stat["usage_usec"] ?? 0
            $0.userUs = stat["user_usec"] ?? 0
            $0.systemUs = stat["system_usec"] ?? 0
            $0.periods = stat["nr_periods"] ?? 0
            $0.throttledPeriods = stat["nr_throttled"] ?? 0
            $0.throttledUs = stat["throttled_usec"] ?? 0
            $0.weight = number("cpu.weight") ?? 0
            // "max 100000" or "50000 100000".
            let maximum = words("cpu.max")
            if let quota = maximum.first.flatMap({ UInt64($0) }) { $0.quotaUs = quota }
            $0.periodUs = maximum.last.flatMap { UInt64($0) } ?? 0
        }
    }

    private var memory: AgentMemoryStats {
        let stat = keyed("memory.stat")
        let events = keyed("memory.events")
        return .with {
            $0.usageBytes = number("memory.current") ?? 0
            if let limit = number("memory.max") { $0.limitBytes = limit }
            $0.lowBytes = number("memory.low") ?? 0
            $0.peakBytes = number("memory.peak") ?? 0
            $0.swapBytes = number("memory.swap.current") ?? 0
            if let limit = number("memory.swap.max") { $0.swapLimitBytes = limit }
            $0.anonymousBytes = stat["anon"] ?? 0
            $0.fileBytes = stat["file"] ?? 0
            $0.inactiveFileBytes = stat["inactive_file"] ?? 0
            $0.mappedFileBytes = stat["file_mapped"] ?? 0
            $0.kernelBytes = stat["kernel"] ?? 0
            $0.pageFaults = stat["pgfault"] ?? 0
            $0.majorPageFaults = stat["pgmajfault"] ?? 0
            $0.limitHits = events["max"] ?? 0
            $0.oomEvents = events["oom"] ?? 0
            $0.oomKills = events["oom_kill"] ?? 0
        }
    }

    /// "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0".
    private var io: [AgentIoStats] {
        lines("io.stat").compactMap { line in
            let words = line.split(separator: " ")
            let device = words.first?.split(separator: ":") ?? []
            guard device.count == 2, let major = UInt32(device[0]), let minor = UInt32(device[1]) else { return nil }
            let values = Self.pairs(words.dropFirst())
            return .with {
                $0.major = major
                $0.minor = minor
                $0.name = BlockDevices.name(major: major, minor: minor)
                $0.readBytes = Self.counter(values["rbytes"])
                $0.writeBytes = Self.counter(values["wbytes"])
                $0.reads = Self.counter(values["rios"])
                $0.writes = Self.counter(values["wios"])
            }
        }
    }

    /// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", then the same for "full".
    private func pressure(_ file: String) -> AgentPressureStats {
        var stats = AgentPressureStats()
        for line in lines(file) {
            let words = line.split(separator: " ")
            let values = Self.pairs(words.dropFirst())
            let pressure = AgentPressure.with {
                $0.totalUs = Self.counter(values["total"])
                $0.avg10 = values["avg10"].flatMap { Double($0) } ?? 0
                $0.avg60 = values["avg60"].flatMap { Double($0) } ?? 0
                $0.avg300 = values["avg300"].flatMap { Double($0) } ?? 0
            }
            if words.first == "some" { stats.some = pressure } else { stats.full = pressure }
        }
        return stats
    }

    /// The sizes that Linux has on x86 and with 4 KiB pages on ARM.
    private var hugepages: [AgentHugepageStats] {
        ["64KB", "2MB", "32MB", "1GB"].compactMap { size in
            guard let usage = number("hugetlb.\(size).current") else { return nil }
            return .with {
                $0.size = size
                $0.usageBytes = usage
            }
        }
    }

    private func text(_ file: String) -> String { Files.text("\(path)/\(file)", limit: Self.longest) ?? "" }

    private func lines(_ file: String) -> [Substring] { text(file).split(separator: "\n") }

    private func words(_ file: String) -> [Substring] { text(file).split(separator: " ") }

    /// Nil for a missing file and for "max".
    private func number(_ file: String) -> UInt64? { UInt64(text(file)) }

    private func keyed(_ file: String) -> [Substring: UInt64] {
        var values: [Substring: UInt64] = [:]
        for line in lines(file) {
            guard let space = line.utf8.firstIndex(of: UInt8(ascii: " ")) else { continue }
            values[line[..<space]] = UInt64(line[line.index(after: space)...])
        }
        return values
    }

    private static func pairs(_ words: ArraySlice<Substring>) -> [Substring: Substring] {
        var values: [Substring: Substring] = [:]
        for word in words {
            guard let equals = word.utf8.firstIndex(of: UInt8(ascii: "=")) else { continue }
            values[word[..<equals]] = word[word.index(after: equals)...]
        }
        return values
    }

    private static func counter(_ text: Substring?) -> UInt64 { text.flatMap { UInt64($0) } ?? 0 }
}

/// Names of block devices.
enum BlockDevices {
    /// As the kernel calls the device; empty when it has gone.
    static func name(major: UInt32, minor: UInt32) -> String {
        let prefix = "DEVNAME="
        let lines = Files.text("/sys/dev/block/\(major):\(minor)/uevent", limit: 4096)?.split(separator: "\n") ?? []
        return lines.first { $0.hasPrefix(prefix) }.map { String($0.dropFirst(prefix.count)) } ?? ""
    }
}

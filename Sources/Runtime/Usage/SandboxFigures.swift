/// What pods and containers use, as a handler says it. Counters grow since the start of what they count.
public protocol UsageGroup: Sendable, Equatable {
    init()
}

extension UsageGroup {
    public static func with(_ fill: (inout Self) throws -> Void) rethrows -> Self {
        var group = Self()
        try fill(&group)
        return group
    }
}

/// What a handler says of a pod's use. Its numbers are within bounds, its texts and its lengths not yet.
public struct SandboxFigures: UsageGroup {
    /// All containers together.
    public var pod = CgroupUsage()
    public var containers: [ContainerFigures] = []
    /// The guest's network interfaces but loopback.
    public var interfaces: [InterfaceUsage] = []
    /// The disk of the containers' writable layers.
    public var scratch = DiskUsage()
    /// Of the whole guest: RAM that its kernel manages, and what of it can be had without swapping (/proc/meminfo).
    @GuestCount public var memoryTotalBytes: UInt64 = 0
    @GuestCount public var memoryAvailableBytes: UInt64 = 0

    public init() {}
}

/// What a handler says of one container.
public struct ContainerFigures: UsageGroup {
    public var containerID = ""
    public var cgroup = CgroupUsage()
    /// Absent until it has been counted for the first time.
    public var writableLayer: LayerUsage?
    public var processes = ProcessUsage()

    public init() {}
}

/// What a control group counts, in the units of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst). What is not counted is 0; a limit that is not set is nil.
public struct CgroupUsage: UsageGroup {
    public var cpu = CPUUsage()
    public var memory = MemoryUsage()
    public var io: [BlockIOUsage] = []
    public var cpuPressure = PressureUsage()
    public var memoryPressure = PressureUsage()
    public var ioPressure = PressureUsage()
    /// pids.current: tasks, threads included.
    @GuestCount public var threads: UInt64 = 0
    /// pids.max.
    @OptionalGuestCount public var threadsLimit: UInt64? = nil
    public var hugepages: [HugepageUsage] = []

    public init() {}
}

/// cpu.stat, cpu.weight and cpu.max.
public struct CPUUsage: UsageGroup {
    @GuestCount public var usageUs: UInt64 = 0
    @GuestCount public var userUs: UInt64 = 0
    @GuestCount public var systemUs: UInt64 = 0
    @GuestCount public var periods: UInt64 = 0
    @GuestCount public var throttledPeriods: UInt64 = 0
    @GuestCount public var throttledUs: UInt64 = 0
    /// cpu.weight.
    @GuestCount public var weight: UInt64 = 0
    /// cpu.max.
    @OptionalGuestCount public var quotaUs: UInt64? = nil
    @GuestCount public var periodUs: UInt64 = 0

    public init() {}
}

/// memory.current and its neighbours.
public struct MemoryUsage: UsageGroup {
    /// memory.current, memory.max, memory.low.
    @GuestCount public var usageBytes: UInt64 = 0
    @OptionalGuestCount public var limitBytes: UInt64? = nil
    @GuestCount public var lowBytes: UInt64 = 0
    /// memory.peak; 0 before Linux 5.19.
    @GuestCount public var peakBytes: UInt64 = 0
    /// memory.swap.current, memory.swap.max.
    @GuestCount public var swapBytes: UInt64 = 0
    @OptionalGuestCount public var swapLimitBytes: UInt64? = nil
    /// memory.stat.
    @GuestCount public var anonymousBytes: UInt64 = 0
    @GuestCount public var fileBytes: UInt64 = 0
    @GuestCount public var inactiveFileBytes: UInt64 = 0
    @GuestCount public var mappedFileBytes: UInt64 = 0
    @GuestCount public var kernelBytes: UInt64 = 0
    @GuestCount public var pageFaults: UInt64 = 0
    @GuestCount public var majorPageFaults: UInt64 = 0
    /// memory.events: how often the limit was hit, memory was short, a process was killed for it.
    @GuestCount public var limitHits: UInt64 = 0
    @GuestCount public var oomEvents: UInt64 = 0
    @GuestCount public var oomKills: UInt64 = 0

    public init() {}
}

/// One line of io.stat.
public struct BlockIOUsage: UsageGroup {
    public var major: UInt32 = 0
    public var minor: UInt32 = 0
    /// As the guest calls it: "sda". Empty when it has no name.
    public var name = ""
    @GuestCount public var readBytes: UInt64 = 0
    @GuestCount public var writeBytes: UInt64 = 0
    @GuestCount public var reads: UInt64 = 0
    @GuestCount public var writes: UInt64 = 0

    public init() {}
}

/// Documentation/accounting/psi.rst.
public struct PressureUsage: UsageGroup {
    public var some = Pressure()
    public var full = Pressure()

    public init() {}
}

/// One line of a pressure file.
public struct Pressure: UsageGroup {
    @GuestCount public var totalUs: UInt64 = 0
    /// Per cent.
    public var avg10 = 0.0
    public var avg60 = 0.0
    public var avg300 = 0.0

    public init() {}
}

/// Huge pages of one size.
public struct HugepageUsage: UsageGroup {
    /// As in the file's name: "2MB".
    public var size = ""
    @GuestCount public var usageBytes: UInt64 = 0
    /// The most that was seen in use: the kernel keeps none.
    @GuestCount public var peakBytes: UInt64 = 0

    public init() {}
}

extension CgroupUsage {
    /// Takes over what was seen before where it was more.
    public mutating func raiseHugepagePeaks(by earlier: [HugepageUsage]) {
        for index in hugepages.indices {
            let before = earlier.first { $0.size == hugepages[index].size }?.peakBytes ?? 0
            hugepages[index].peakBytes = max(hugepages[index].usageBytes, before)
        }
    }
}

/// What a writable layer takes.
public struct LayerUsage: UsageGroup {
    /// Blocks and inodes of the writable layer on the scratch disk.
    @GuestCount public var usedBytes: UInt64 = 0
    @GuestCount public var inodes: UInt64 = 0

    public init() {}
}

/// Processes of a container.
public struct ProcessUsage: UsageGroup {
    @GuestCount public var processes: UInt64 = 0
    /// Only when asked for.
    @GuestCount public var openFiles: UInt64 = 0
    @GuestCount public var sockets: UInt64 = 0
    /// Soft RLIMIT_NOFILE of the first process; absent for none.
    @OptionalGuestCount public var openFilesLimit: UInt64? = nil

    public init() {}
}

/// A file system.
public struct DiskUsage: UsageGroup {
    @GuestCount public var totalBytes: UInt64 = 0
    @GuestCount public var availableBytes: UInt64 = 0
    @GuestCount public var totalInodes: UInt64 = 0
    @GuestCount public var freeInodes: UInt64 = 0

    public init() {}
}

/// One line of /proc/net/dev.
public struct InterfaceUsage: UsageGroup {
    public var name = ""
    @GuestCount public var rxBytes: UInt64 = 0
    @GuestCount public var rxPackets: UInt64 = 0
    @GuestCount public var rxErrors: UInt64 = 0
    @GuestCount public var rxDropped: UInt64 = 0
    @GuestCount public var txBytes: UInt64 = 0
    @GuestCount public var txPackets: UInt64 = 0
    @GuestCount public var txErrors: UInt64 = 0
    @GuestCount public var txDropped: UInt64 = 0

    public init() {}
}

extension MemoryUsage {
    /// In use and not to be freed at once.
    public var workingSetBytes: UInt64 { usageBytes - min(usageBytes, inactiveFileBytes) }
}

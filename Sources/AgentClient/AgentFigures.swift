import AgentProtocol
import Runtime

// The agent's figures in the contract's types, field by field.

extension SandboxFigures {
    public init(_ message: AgentGetStatsResponse) {
        self.init()
        pod = CgroupUsage(message.pod)
        containers = message.containers.map(ContainerFigures.init)
        interfaces = message.interfaces.map(InterfaceUsage.init)
        scratch = DiskUsage(message.scratch)
        memoryTotalBytes = message.memoryTotalBytes
        memoryAvailableBytes = message.memoryAvailableBytes
    }
}

extension ContainerFigures {
    init(_ message: AgentContainerStats) {
        self.init()
        containerID = message.containerID
        cgroup = CgroupUsage(message.cgroup)
        writableLayer = message.hasWritableLayer ? LayerUsage(message.writableLayer) : nil
        processes = ProcessUsage(message.processes)
    }
}

extension CgroupUsage {
    init(_ message: AgentCgroupStats) {
        self.init()
        cpu = CPUUsage(message.cpu)
        memory = MemoryUsage(message.memory)
        io = message.io.map(BlockIOUsage.init)
        cpuPressure = PressureUsage(message.cpuPressure)
        memoryPressure = PressureUsage(message.memoryPressure)
        ioPressure = PressureUsage(message.ioPressure)
        threads = message.threads
        threadsLimit = message.hasThreadsLimit ? message.threadsLimit : nil
        hugepages = message.hugepages.map(HugepageUsage.init)
    }
}

extension CPUUsage {
    init(_ message: AgentCpuStats) {
        self.init()
        usageUs = message.usageUs
        userUs = message.userUs
        systemUs = message.systemUs
        periods = message.periods
        throttledPeriods = message.throttledPeriods
        throttledUs = message.throttledUs
        weight = message.weight
        quotaUs = message.hasQuotaUs ? message.quotaUs : nil
        periodUs = message.periodUs
    }
}

extension MemoryUsage {
    init(_ message: AgentMemoryStats) {
        self.init()
        usageBytes = message.usageBytes
        limitBytes = message.hasLimitBytes ? message.limitBytes : nil
        lowBytes = message.lowBytes
        peakBytes = message.peakBytes
        swapBytes = message.swapBytes
        swapLimitBytes = message.hasSwapLimitBytes ? message.swapLimitBytes : nil
        anonymousBytes = message.anonymousBytes
        fileBytes = message.fileBytes
        inactiveFileBytes = message.inactiveFileBytes
        mappedFileBytes = message.mappedFileBytes
        kernelBytes = message.kernelBytes
        pageFaults = message.pageFaults
        majorPageFaults = message.majorPageFaults
        limitHits = message.limitHits
        oomEvents = message.oomEvents
        oomKills = message.oomKills
    }
}

extension BlockIOUsage {
    init(_ message: AgentIoStats) {
        self.init()
        major = message.major
        minor = message.minor
        name = message.name
        readBytes = message.readBytes
        writeBytes = message.writeBytes
        reads = message.reads
        writes = message.writes
    }
}

extension PressureUsage {
    init(_ message: AgentPressureStats) {
        self.init()
        some = Pressure(message.some)
        full = Pressure(message.full)
    }
}

extension Pressure {
    init(_ message: AgentPressure) {
        self.init()
        totalUs = message.totalUs
        avg10 = message.avg10
        avg60 = message.avg60
        avg300 = message.avg300
    }
}

extension HugepageUsage {
    init(_ message: AgentHugepageStats) {
        self.init()
        size = message.size
        usageBytes = message.usageBytes
    }
}

extension LayerUsage {
    init(_ message: AgentLayerStats) {
        self.init()
        usedBytes = message.usedBytes
        inodes = message.inodes
    }
}

extension ProcessUsage {
    init(_ message: AgentProcessStats) {
        self.init()
        processes = message.processes
        openFiles = message.openFiles
        sockets = message.sockets
        openFilesLimit = message.hasOpenFilesLimit ? message.openFilesLimit : nil
    }
}

extension DiskUsage {
    init(_ message: AgentDiskStats) {
        self.init()
        totalBytes = message.totalBytes
        availableBytes = message.availableBytes
        totalInodes = message.totalInodes
        freeInodes = message.freeInodes
    }
}

extension InterfaceUsage {
    init(_ message: AgentInterfaceStats) {
        self.init()
        name = message.name
        rxBytes = message.rxBytes
        rxPackets = message.rxPackets
        rxErrors = message.rxErrors
        rxDropped = message.rxDropped
        txBytes = message.txBytes
        txPackets = message.txPackets
        txErrors = message.txErrors
        txDropped = message.txDropped
    }
}

import CRI
import Pods
import Runtime

/// What a container's metrics are made from.
struct ContainerReading {
    var container: ContainerSnapshot
    var usage: ContainerUsage
    var scratch: DiskUsage

    var cpu: CPUUsage { usage.cgroup.cpu }
    var memory: MemoryUsage { usage.cgroup.memory }
}

/// One metric of containers under the name that cAdvisor gave it.
struct ContainerMetric: Sendable {
    typealias Value = (labels: [String], value: UInt64)

    /// Labels of every metric, as cAdvisor's users know them.
    static let commonLabels = ["container", "id", "image", "name", "namespace", "pod"]

    let name: String
    let help: String
    let type: CRIMetricType
    /// Behind the common ones.
    let labels: [String]
    let values: @Sendable (ContainerReading) -> [Value]

    static let all = cpu + memory + processes + files + devices + pressure + settings + life

    var descriptor: CRIMetricDescriptor {
        .with {
            $0.name = name
            $0.help = help
            $0.labelKeys = Self.commonLabels + labels
        }
    }

    private static func counter(_ name: String, _ help: String, _ value: @escaping @Sendable (ContainerReading) -> UInt64) -> Self {
        Self(name: name, help: help, type: .counter, labels: []) { [([], value($0))] }
    }

    private static func gauge(_ name: String, _ help: String, _ value: @escaping @Sendable (ContainerReading) -> UInt64) -> Self {
        Self(name: name, help: help, type: .gauge, labels: []) { [([], value($0))] }
    }

    /// The CRI's metrics are whole numbers.
    private static func seconds(_ microseconds: UInt64) -> UInt64 { microseconds / 1_000_000 }

    private static let cpu = [
        Self(name: "container_cpu_usage_seconds_total", help: "CPU time used, in seconds.", type: .counter, labels: ["cpu"]) {
            [(["total"], seconds($0.cpu.usageUs))]
        },
        counter("container_cpu_user_seconds_total", "CPU time used in user mode, in seconds.") { seconds($0.cpu.userUs) },
        counter("container_cpu_system_seconds_total", "CPU time used in kernel mode, in seconds.") { seconds($0.cpu.systemUs) },
        counter("container_cpu_cfs_periods_total", "Periods of the CPU quota that have passed.") { $0.cpu.periods },
        counter("container_cpu_cfs_throttled_periods_total", "Periods in which the quota was used up.") { $0.cpu.throttledPeriods },
        counter("container_cpu_cfs_throttled_seconds_total", "Time that the quota made processes wait, in seconds.") {
            seconds($0.cpu.throttledUs)
        },
    ]

    private static let memory = [
        gauge("container_memory_usage_bytes", "Memory in use, caches included.") { $0.memory.usageBytes },
        gauge("container_memory_working_set_bytes", "Memory in use without what can be freed at once.") { $0.memory.workingSetBytes },
        gauge("container_memory_rss", "Anonymous memory.") { $0.memory.anonymousBytes },
        gauge("container_memory_cache", "Page cache.") { $0.memory.fileBytes },
        gauge("container_memory_mapped_file", "Files mapped to memory.") { $0.memory.mappedFileBytes },
        gauge("container_memory_kernel_usage", "Memory that the kernel uses for the container.") { $0.memory.kernelBytes },
        gauge("container_memory_swap", "Swap in use.") { $0.memory.swapBytes },
        gauge("container_memory_max_usage_bytes", "The most memory ever in use.") { $0.memory.peakBytes },
        counter("container_memory_failcnt", "How often the memory limit was hit.") { $0.memory.limitHits },
        Self(
            name: "container_memory_failures_total", help: "Page faults.", type: .counter, labels: ["failure_type", "scope"]
        ) {
            [(["pgfault", "hierarchy"], $0.memory.pageFaults), (["pgmajfault", "hierarchy"], $0.memory.majorPageFaults)]
        },
        counter("container_oom_events_total", "Processes killed because memory ran out.") { $0.memory.oomKills },
        Self(name: "container_hugetlb_usage_bytes", help: "Huge pages in use.", type: .gauge, labels: ["pagesize"]) { reading in
            reading.usage.cgroup.hugepages.map { ([$0.size], $0.usageBytes) }
        },
        Self(
            name: "container_hugetlb_max_usage_bytes", help: "The most huge pages seen in use.", type: .gauge, labels: ["pagesize"]
        ) { reading in
            reading.usage.cgroup.hugepages.map { ([$0.size], $0.peakBytes) }
        },
    ]

    private static let processes = [
        gauge("container_processes", "Processes that run.") { $0.usage.processes.processes },
        gauge("container_threads", "Threads that run.") { $0.usage.cgroup.threads },
        gauge("container_threads_max", "The most threads allowed; 0 for no limit.") { $0.usage.cgroup.threadsLimit ?? 0 },
        gauge("container_file_descriptors", "Open files.") { $0.usage.processes.openFiles },
        gauge("container_sockets", "Open sockets.") { $0.usage.processes.sockets },
        Self(
            name: "container_ulimits_soft", help: "Soft limits of the first process.", type: .gauge, labels: ["ulimit"]
        ) { reading in
            let processes = reading.usage.processes
            return processes.openFilesLimit.map { [(["max_open_files"], $0)] } ?? []
        },
    ]

    /// The writable layer, on the pod's scratch disk.
    private static let files = [
        file("container_fs_usage_bytes", "Bytes of the writable layer.") { $0.usage.writableLayer?.usedBytes },
        file("container_fs_limit_bytes", "Bytes that the pod's writable layers can have together.") { $0.scratch.totalBytes },
        file("container_fs_inodes_total", "Inodes that the pod's writable layers can have together.") { $0.scratch.totalInodes },
        file("container_fs_inodes_free", "Inodes that are free for the pod's writable layers.") { $0.scratch.freeInodes },
    ]

    private static func file(_ name: String, _ help: String, _ value: @escaping @Sendable (ContainerReading) -> UInt64?) -> Self {
        Self(name: name, help: help, type: .gauge, labels: ["device"]) { reading in
            value(reading).map { [(["scratch"], $0)] } ?? []
        }
    }

    private static let devices = [
        device("container_fs_reads_total", "Reads.") { $0.reads },
        device("container_fs_reads_bytes_total", "Bytes read.") { $0.readBytes },
        device("container_fs_writes_total", "Writes.") { $0.writes },
        device("container_fs_writes_bytes_total", "Bytes written.") { $0.writeBytes },
        Self(
            name: "container_blkio_device_usage_total", help: "Bytes moved, by device and direction.", type: .counter,
            labels: ["device", "major", "minor", "operation"]
        ) { reading in
            reading.usage.cgroup.io.flatMap { device -> [Value] in
                let labels = [path(device), String(device.major), String(device.minor)]
                return [(labels + ["Read"], device.readBytes), (labels + ["Write"], device.writeBytes)]
            }
        },
    ]

    private static func device(_ name: String, _ help: String, _ value: @escaping @Sendable (BlockIOUsage) -> UInt64) -> Self {
        Self(name: name, help: help, type: .counter, labels: ["device"]) { reading in
            reading.usage.cgroup.io.map { ([path($0)], value($0)) }
        }
    }

    /// The guest's name of a device.
    private static func path(_ device: BlockIOUsage) -> String { device.name.isEmpty ? "" : "/dev/\(device.name)" }

    private static let pressure = [
        stall("cpu", "for a CPU") { $0.cpuPressure }, stall("memory", "for memory") { $0.memoryPressure },
        stall("io", "for input or output") { $0.ioPressure },
    ].flatMap { $0 }

    private static func stall(
        _ resource: String, _ cause: String, _ stats: @escaping @Sendable (CgroupUsage) -> PressureUsage
    ) -> [Self] {
        [
            counter("container_pressure_\(resource)_waiting_seconds_total", "Time that some tasks waited \(cause), in seconds.") {
                seconds(stats($0.usage.cgroup).some.totalUs)
            },
            counter("container_pressure_\(resource)_stalled_seconds_total", "Time that all tasks waited \(cause), in seconds.") {
                seconds(stats($0.usage.cgroup).full.totalUs)
            },
        ]
    }

    private static let settings = [
        gauge("container_spec_cpu_period", "Period of the CPU quota, in microseconds.") { $0.cpu.periodUs },
        Self(name: "container_spec_cpu_quota", help: "CPU time of a period, in microseconds.", type: .gauge, labels: []) { reading in
            reading.cpu.quotaUs.map { [([], $0)] } ?? []
        },
        // The reverse of the conversion that made the weight.
        gauge("container_spec_cpu_shares", "CPU shares.") { reading in
            let weight = min(max(reading.cpu.weight, 1), 10_000)
            return 2 + (weight - 1) * 262_142 / 9999
        },
        gauge("container_spec_memory_limit_bytes", "Memory limit; 0 for none.") { $0.memory.limitBytes ?? 0 },
        gauge("container_spec_memory_reservation_limit_bytes", "Memory that is protected.") { $0.memory.lowBytes },
        gauge("container_spec_memory_swap_limit_bytes", "Swap limit; 0 for none.") { $0.memory.swapLimitBytes ?? 0 },
    ]

    private static let life = [
        gauge("container_start_time_seconds", "When the container started, in Unix time.") {
            UInt64(max($0.container.state.startedAt, 0)) / 1_000_000_000
        },
        gauge("container_last_seen", "When the container was seen last, in Unix time.") {
            UInt64(max($0.usage.time, 0)) / 1_000_000_000
        },
    ]
}

/// One metric of a pod's network interfaces.
struct PodMetric: Sendable {
    let name: String
    let help: String
    let value: @Sendable (InterfaceUsage) -> UInt64

    var descriptor: CRIMetricDescriptor {
        .with {
            $0.name = name
            $0.help = help
            $0.labelKeys = ContainerMetric.commonLabels + ["interface"]
        }
    }

    static let all = [
        Self(name: "container_network_receive_bytes_total", help: "Bytes received.") { $0.rxBytes },
        Self(name: "container_network_receive_packets_total", help: "Packets received.") { $0.rxPackets },
        Self(name: "container_network_receive_errors_total", help: "Packets received with errors.") { $0.rxErrors },
        Self(name: "container_network_receive_packets_dropped_total", help: "Packets dropped on arrival.") { $0.rxDropped },
        Self(name: "container_network_transmit_bytes_total", help: "Bytes sent.") { $0.txBytes },
        Self(name: "container_network_transmit_packets_total", help: "Packets sent.") { $0.txPackets },
        Self(name: "container_network_transmit_errors_total", help: "Packets not sent for errors.") { $0.txErrors },
        Self(name: "container_network_transmit_packets_dropped_total", help: "Packets dropped instead of sent.") { $0.txDropped },
    ]
}

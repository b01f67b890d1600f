import CRI
import Pods
import Runtime

/// What pods and containers use as CRI messages.
enum StatsMessage {
    static func container(
        _ container: ContainerSnapshot, _ usage: ContainerUsage?, writableLayersAt mountpoint: String
    ) -> CRIContainerStats {
        .with {
            $0.attributes.id = container.id
            $0.attributes.metadata = ContainerMessage.metadata(container.spec)
            $0.attributes.labels = container.spec.labels
            $0.attributes.annotations = container.spec.annotations
            guard let usage else { return }
            $0.cpu = cpu(usage.cgroup, usage.nanoCores, usage.time)
            $0.memory = memory(usage.cgroup, usage.time)
            $0.swap = swap(usage.cgroup.memory, usage.time)
            $0.io = io(usage.cgroup, usage.time)
            if let layer = usage.writableLayer { $0.writableLayer = filesystem(layer, mountpoint, usage.time) }
        }
    }

    static func sandbox(
        _ sandbox: SandboxSnapshot, _ containers: [ContainerSnapshot], _ usage: PodUsage, writableLayersAt mountpoint: String
    ) -> CRIPodSandboxStats {
        .with {
            $0.attributes.id = sandbox.id
            $0.attributes.metadata = SandboxMessage.metadata(sandbox.spec)
            $0.attributes.labels = sandbox.spec.labels
            $0.attributes.annotations = sandbox.spec.annotations
            $0.linux.cpu = cpu(usage.cgroup, usage.nanoCores, usage.time)
            $0.linux.memory = memory(usage.cgroup, usage.time)
            $0.linux.io = io(usage.cgroup, usage.time)
            $0.linux.network = network(usage, main: sandbox.state.network?.attached?.interfaceName)
            $0.linux.process.timestamp = usage.time
            $0.linux.process.processCount.value = usage.containers.values.reduce(0) { $0 &+ $1.processes.processes }
            $0.linux.containers = containers.compactMap { snapshot in
                usage.containers[snapshot.id].map { container(snapshot, $0, writableLayersAt: mountpoint) }
            }
        }
    }

    private static func cpu(_ cgroup: CgroupUsage, _ nanoCores: UInt64?, _ time: Int64) -> CRICpuUsage {
        .with {
            $0.timestamp = time
            $0.usageCoreNanoSeconds.value = cgroup.cpu.usageUs.multipliedReportingOverflow(by: 1000).partialValue
            if let nanoCores { $0.usageNanoCores.value = nanoCores }
            $0.psi = pressure(cgroup.cpuPressure)
        }
    }

    private static func memory(_ cgroup: CgroupUsage, _ time: Int64) -> CRIMemoryUsage {
        let memory = cgroup.memory
        return .with {
            $0.timestamp = time
            $0.workingSetBytes.value = memory.workingSetBytes
            if let limit = memory.limitBytes { $0.availableBytes.value = limit - min(limit, memory.workingSetBytes) }
            $0.usageBytes.value = memory.usageBytes
            $0.rssBytes.value = memory.anonymousBytes
            $0.pageFaults.value = memory.pageFaults
            $0.majorPageFaults.value = memory.majorPageFaults
            $0.psi = pressure(cgroup.memoryPressure)
        }
    }

    private static func swap(_ memory: MemoryUsage, _ time: Int64) -> CRISwapUsage {
        .with {
            $0.timestamp = time
            $0.swapUsageBytes.value = memory.swapBytes
            if let limit = memory.swapLimitBytes { $0.swapAvailableBytes.value = limit - min(limit, memory.swapBytes) }
        }
    }

    private static func io(_ cgroup: CgroupUsage, _ time: Int64) -> CRIIoUsage {
        .with {
            $0.timestamp = time
            $0.psi = pressure(cgroup.ioPressure)
        }
    }

    private static func filesystem(_ layer: LayerUsage, _ mountpoint: String, _ time: Int64) -> CRIFilesystemUsage {
        .with {
            $0.timestamp = time
            $0.fsID.mountpoint = mountpoint
            $0.usedBytes.value = layer.usedBytes
            $0.inodesUsed.value = layer.inodes
        }
    }

    private static func network(_ usage: PodUsage, main: String?) -> CRINetworkUsage {
        .with {
            $0.timestamp = usage.time
            for stats in usage.interfaces {
                let message = CRINetworkInterfaceUsage.with {
                    $0.name = stats.name
                    $0.rxBytes.value = stats.rxBytes
                    $0.rxErrors.value = stats.rxErrors
                    $0.txBytes.value = stats.txBytes
                    $0.txErrors.value = stats.txErrors
                }
                if stats.name == main { $0.defaultInterface = message } else { $0.interfaces.append(message) }
            }
        }
    }

    private static func pressure(_ stats: PressureUsage) -> CRIPsiStats {
        .with {
            $0.some = pressure(stats.some)
            $0.full = pressure(stats.full)
        }
    }

    private static func pressure(_ pressure: Pressure) -> CRIPsiData {
        .with {
            $0.total = pressure.totalUs
            $0.avg10 = pressure.avg10
            $0.avg60 = pressure.avg60
            $0.avg300 = pressure.avg300
        }
    }
}

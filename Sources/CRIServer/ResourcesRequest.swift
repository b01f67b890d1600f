import CRI
import Errors
import Pods
import Runtime

/// LinuxContainerResources as the heart has them, and back.
enum ResourcesRequest {
    static func add(_ resources: CRILinuxContainerResources, to spec: inout ContainerSpec) throws {
        spec.resources = try decoded(resources, "config.linux.resources")
        spec.oomScoreAdjustment = Int32(spec.resources.oomScoreAdjustment)
    }

    /// - Parameter field: where the client wrote them, for messages.
    /// - Throws: `.invalidArgument` or `.unimplemented` naming the field.
    static func decoded(_ message: CRILinuxContainerResources, _ field: String) throws -> LinuxResources {
        let resources = resources(message)
        try resources.check(field)
        return resources
    }

    /// A change of limits, whose values are checked together with those they change.
    static func resources(_ message: CRILinuxContainerResources) -> LinuxResources {
        var resources = LinuxResources()
        resources.cpuPeriod = message.cpuPeriod
        resources.cpuQuota = message.cpuQuota
        resources.cpuShares = message.cpuShares
        resources.memoryLimit = message.memoryLimitInBytes
        resources.memorySwapLimit = message.memorySwapLimitInBytes
        resources.oomScoreAdjustment = message.oomScoreAdj
        resources.cpusetCPUs = message.cpusetCpus
        resources.cpusetMemoryNodes = message.cpusetMems
        resources.hugepageLimits = message.hugepageLimits.map { .init(pageSize: $0.pageSize, limit: $0.limit) }
        resources.unified = message.unified
        return resources
    }

    static func message(_ resources: LinuxResources) -> CRILinuxContainerResources {
        .with {
            $0.cpuPeriod = resources.cpuPeriod
            $0.cpuQuota = resources.cpuQuota
            $0.cpuShares = resources.cpuShares
            $0.memoryLimitInBytes = resources.memoryLimit
            $0.memorySwapLimitInBytes = resources.memorySwapLimit
            $0.oomScoreAdj = resources.oomScoreAdjustment
            $0.cpusetCpus = resources.cpusetCPUs
            $0.cpusetMems = resources.cpusetMemoryNodes
            $0.hugepageLimits = resources.hugepageLimits.map { limit in
                .with {
                    $0.pageSize = limit.pageSize
                    $0.limit = limit.limit
                }
            }
            $0.unified = resources.unified
        }
    }
}

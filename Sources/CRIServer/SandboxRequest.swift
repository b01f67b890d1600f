import CRI
import Errors
import PodNetwork
import Pods

/// Validates a PodSandboxConfig and turns it into the heart's spec.
enum SandboxRequest {
    static func spec(_ config: CRIPodSandboxConfig, handler: String) throws -> SandboxSpec {
        guard config.hasMetadata else { throw SwiftletError(.invalidArgument, "RunPodSandbox: config.metadata is missing") }
        let metadata = config.metadata
        try Validation.name(metadata.name, "config.metadata.name")
        try Validation.name(metadata.namespace, "config.metadata.namespace")
        try Validation.name(metadata.uid, "config.metadata.uid")
        var spec = SandboxSpec(
            metadata: .init(name: metadata.name, uid: metadata.uid, namespace: metadata.namespace, attempt: metadata.attempt))
        try Validation.hostname(config.hostname, "config.hostname")
        spec.hostname = config.hostname
        if config.hasDnsConfig { spec.dns = try dns(config.dnsConfig) }
        try Validation.absolutePath(config.logDirectory, "config.log_directory", mayBeEmpty: true)
        spec.logDirectory = config.logDirectory
        spec.portMappings = try config.portMappings.filter { $0.hostPort > 0 }.map(portMapping)
        spec.labels = config.labels
        spec.annotations = config.annotations
        spec.runtimeHandler = handler
        try addLinux(config.linux, to: &spec)
        return spec
    }

    private static func dns(_ config: CRIDNSConfig) throws -> SandboxSpec.DNS {
        for (values, field) in [(config.servers, "servers"), (config.searches, "searches"), (config.options, "options")] {
            for value in values { try Validation.word(value, "config.dns_config.\(field)") }
        }
        return SandboxSpec.DNS(servers: config.servers, searches: config.searches, options: config.options)
    }

    private static func portMapping(_ mapping: CRIPortMapping) throws -> PortMapping {
        let ports = (1...65535)
        guard ports.contains(Int(mapping.containerPort)), ports.contains(Int(mapping.hostPort)) else {
            throw SwiftletError(
                .invalidArgument, "config.port_mappings: \(mapping.hostPort) to \(mapping.containerPort): a port is 1 to 65535")
        }
        let transport: PortMapping.TransportProtocol
        switch mapping.protocol {
        case .tcp: transport = .tcp
        case .udp: transport = .udp
        case .sctp: transport = .sctp
        case .UNRECOGNIZED(let value):
            throw SwiftletError(.invalidArgument, "config.port_mappings: protocol \(value) is unknown")
        }
        try Validation.word(mapping.hostIp, "config.port_mappings.host_ip")
        return PortMapping(
            transport: transport, containerPort: UInt16(mapping.containerPort), hostPort: UInt16(mapping.hostPort),
            hostIP: mapping.hostIp.isEmpty ? nil : mapping.hostIp)
    }

    private static func addLinux(_ linux: CRILinuxPodSandboxConfig, to spec: inout SandboxSpec) throws {
        for (key, value) in linux.sysctls {
            try Validation.word(key, "config.linux.sysctls")
            try Validation.text(value, "config.linux.sysctls \(key)")
        }
        spec.sysctls = linux.sysctls
        try Validation.absolutePath(linux.cgroupParent, "config.linux.cgroup_parent", mayBeEmpty: true, mayBeSlice: true)
        spec.cgroupParent = linux.cgroupParent
        let namespaces = linux.securityContext.namespaceOptions
        for (mode, field) in [(namespaces.network, "network"), (namespaces.pid, "pid"), (namespaces.ipc, "ipc")] where mode == .node {
            throw SwiftletError(
                .invalidArgument,
                "config.linux.security_context.namespace_options.\(field): a pod in a virtual machine cannot share the node's namespaces; "
                    + "use a RuntimeClass whose handler runs on the node")
        }
        spec.sharesPidNamespace = namespaces.pid == .pod
        spec.memoryBytes = try positive(linux.resources.memoryLimitInBytes, "config.linux.resources.memory_limit_in_bytes")
        if spec.memoryBytes > 0 {
            spec.memoryBytes += try positive(linux.overhead.memoryLimitInBytes, "config.linux.overhead.memory_limit_in_bytes")
        }
        let quota = try positive(max(linux.resources.cpuQuota, 0), "config.linux.resources.cpu_quota")
        let period = linux.resources.cpuPeriod == 0 ? 100_000 : try positive(linux.resources.cpuPeriod, "config.linux.resources.cpu_period")
        spec.milliCPUs = quota > UInt64.max / 1000 ? UInt64.max : quota * 1000 / period
    }

    private static func positive(_ value: Int64, _ field: String) throws -> UInt64 {
        guard value >= 0, value < 1 << 53 else { throw SwiftletError(.invalidArgument, "\(field) \(value) is out of range") }
        return UInt64(value)
    }
}

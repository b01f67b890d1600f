import CRI
import Errors
import Pods
import Runtime

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
        // Without a host port nothing is mapped: the container's ports are reachable at the pod's address.
        spec.portMappings = try config.portMappings.filter { $0.hostPort != 0 }.map(portMapping)
        spec.labels = config.labels
        spec.annotations = config.annotations
        spec.runtimeHandler = handler
        guard !config.hasWindows else {
            throw SwiftletError(.invalidArgument, "RunPodSandbox: config.windows: the pods of this node run Linux")
        }
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
        for (port, field) in [(mapping.hostPort, "host_port"), (mapping.containerPort, "container_port")] where !ports.contains(Int(port)) {
            throw SwiftletError(.invalidArgument, "config.port_mappings.\(field) \(port) is not from 1 to 65535")
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
        spec.sysctls = try SysctlRequest.checked(linux.sysctls)
        try Validation.absolutePath(linux.cgroupParent, "config.linux.cgroup_parent", mayBeEmpty: true, mayBeSlice: true)
        spec.cgroupParent = linux.cgroupParent
        let securityField = "config.linux.security_context"
        spec.policies = try ProfileRequest.policies(linux.securityContext, securityField)
        try NamespaceRequest.add(linux.securityContext.namespaceOptions, to: &spec, "\(securityField).namespace_options")
        if linux.hasResources { spec.resources = try ResourcesRequest.decoded(linux.resources, "config.linux.resources") }
        if linux.hasOverhead { spec.overhead = try ResourcesRequest.decoded(linux.overhead, "config.linux.overhead") }
    }
}

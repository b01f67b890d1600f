import CRI
import Images
import Pods
import Runtime

/// What a client asked for, as it would ask for it again: specs back to the CRI's messages.
enum ConfigMessage {
    static func config(_ spec: SandboxSpec) -> CRIPodSandboxConfig {
        .with {
            $0.metadata = SandboxMessage.metadata(spec)
            $0.hostname = spec.hostname
            $0.logDirectory = spec.logDirectory
            if let dns = spec.dns {
                ($0.dnsConfig.servers, $0.dnsConfig.searches, $0.dnsConfig.options) = (dns.servers, dns.searches, dns.options)
            }
            $0.portMappings = spec.portMappings.map(portMapping)
            $0.labels = spec.labels
            $0.annotations = spec.annotations
            $0.linux.cgroupParent = spec.cgroupParent
            $0.linux.sysctls = spec.sysctls
            $0.linux.securityContext.namespaceOptions = SandboxMessage.namespaces(spec)
            if let resources = spec.resources { $0.linux.resources = ResourcesRequest.message(resources) }
            if let overhead = spec.overhead { $0.linux.overhead = ResourcesRequest.message(overhead) }
        }
    }

    private static func portMapping(_ mapping: PortMapping) -> CRIPortMapping {
        .with {
            switch mapping.transport {
            case .tcp: $0.protocol = .tcp
            case .udp: $0.protocol = .udp
            case .sctp: $0.protocol = .sctp
            }
            $0.containerPort = Int32(mapping.containerPort)
            $0.hostPort = Int32(mapping.hostPort)
            $0.hostIp = mapping.hostIP ?? ""
        }
    }

    /// A container's as JSON, in which the values of its environment, bytes in the message, are text.
    static func value(_ spec: ContainerSpec) -> JSONValue {
        guard case .object(var members) = VerboseInfo.value(config(spec)) else { return .null }
        members["envs"] = .array(
            spec.environment.map { .object(["key": .string($0.key), "value": .string(String(decoding: $0.value.bytes, as: UTF8.self))]) })
        return .object(members)
    }

    /// An image's configuration by the names of the OCI image specification.
    static func value(_ config: ImageConfig) -> JSONValue {
        func strings(_ values: [String]) -> JSONValue { .array(values.map { .string($0) }) }
        func set(_ names: [String]) -> JSONValue { .object(Dictionary(names.map { ($0, .object([:])) }) { first, _ in first }) }
        return .object([
            "architecture": .string(config.architecture), "os": .string(config.os),
            "config": .object([
                "User": .string(config.user), "Env": strings(config.env), "Entrypoint": strings(config.entrypoint),
                "Cmd": strings(config.cmd), "WorkingDir": .string(config.workingDir), "StopSignal": .string(config.stopSignal),
                "Labels": .object(config.labels.mapValues { .string($0) }), "ExposedPorts": set(config.exposedPorts),
                "Volumes": set(config.volumes),
            ]),
            "rootfs": .object(["type": "layers", "diff_ids": strings(config.diffIDs)]),
        ])
    }

    private static func config(_ spec: ContainerSpec) -> CRIContainerConfig {
        .with {
            $0.metadata = ContainerMessage.metadata(spec)
            $0.image.image = spec.image
            $0.image.userSpecifiedImage = spec.userSpecifiedImage
            $0.command = spec.command
            $0.args = spec.arguments
            $0.workingDir = spec.workingDirectory
            $0.mounts = spec.mounts.map(MountMessage.mount)
            $0.labels = spec.labels
            $0.annotations = spec.annotations
            $0.logPath = spec.logPath
            $0.stdin = spec.stdin
            $0.stdinOnce = spec.stdinOnce
            $0.tty = spec.terminal
            $0.linux.resources = ResourcesRequest.message(spec.resources)
            $0.linux.securityContext = security(spec)
        }
    }

    private static func security(_ spec: ContainerSpec) -> CRILinuxContainerSecurityContext {
        .with {
            $0.privileged = spec.privileged
            $0.readonlyRootfs = spec.readonlyRoot
            $0.noNewPrivs = spec.noNewPrivileges
            if let uid = Int64(spec.user) { $0.runAsUser.value = uid } else { $0.runAsUsername = spec.user }
            if let group = spec.group { $0.runAsGroup.value = Int64(group) }
            $0.supplementalGroups = spec.supplementalGroups.map(Int64.init)
            $0.supplementalGroupsPolicy = spec.security.strictGroups ? .strict : .merge
            $0.capabilities.addCapabilities = spec.capabilities.add
            $0.capabilities.dropCapabilities = spec.capabilities.drop
            $0.capabilities.addAmbientCapabilities = spec.capabilities.ambient
            $0.maskedPaths = spec.maskedPaths
            $0.readonlyPaths = spec.readonlyPaths
        }
    }
}

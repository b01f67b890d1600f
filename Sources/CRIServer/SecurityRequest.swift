import CRI
import Errors
import Pods

/// Validates a LinuxContainerSecurityContext.
enum SecurityRequest {
    private static let field = "config.linux.security_context"

    /// What clients that say nothing get, as with containerd; the kubelet sends its own lists.
    private static let defaultMaskedPaths = [
        "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
        "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
    ]
    private static let defaultReadonlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

    static func add(_ context: CRILinuxContainerSecurityContext, to spec: inout ContainerSpec) throws {
        spec.privileged = context.privileged
        spec.readonlyRoot = context.readonlyRootfs
        spec.noNewPrivileges = context.noNewPrivs
        try addUser(context, to: &spec)
        spec.capabilities = ContainerSpec.Capabilities(
            add: context.capabilities.addCapabilities, drop: context.capabilities.dropCapabilities,
            ambient: context.capabilities.addAmbientCapabilities)
        for name in spec.capabilities.add + spec.capabilities.drop + spec.capabilities.ambient {
            try Validation.word(name, "\(field).capabilities")
        }
        try addNamespaces(context.namespaceOptions, to: &spec)
        for path in context.maskedPaths { try Validation.absolutePath(path, "\(field).masked_paths") }
        for path in context.readonlyPaths { try Validation.absolutePath(path, "\(field).readonly_paths") }
        spec.maskedPaths = context.maskedPaths.isEmpty ? defaultMaskedPaths : context.maskedPaths
        spec.readonlyPaths = context.readonlyPaths.isEmpty ? defaultReadonlyPaths : context.readonlyPaths
        if context.seccomp.profileType == .localhost || context.seccompProfilePath.hasPrefix("localhost/") {
            throw SwiftletError(.unimplemented, "\(field).seccomp: profiles of the node are not supported")
        }
        if context.apparmor.profileType == .localhost || context.apparmorProfile.hasPrefix("localhost/") {
            throw SwiftletError(.unimplemented, "\(field).apparmor: profiles of the node are not supported; the guest has no AppArmor")
        }
    }

    private static func addUser(_ context: CRILinuxContainerSecurityContext, to spec: inout ContainerSpec) throws {
        if context.hasRunAsUser {
            spec.user = String(try identifier(context.runAsUser.value, "run_as_user"))
        } else if !context.runAsUsername.isEmpty {
            try Validation.word(context.runAsUsername, "\(field).run_as_username")
            spec.user = context.runAsUsername
        }
        if context.hasRunAsGroup {
            guard context.hasRunAsUser || !context.runAsUsername.isEmpty else {
                throw SwiftletError(.invalidArgument, "\(field).run_as_group needs run_as_user or run_as_username")
            }
            spec.group = try identifier(context.runAsGroup.value, "run_as_group")
        }
        spec.supplementalGroups = try context.supplementalGroups.map { try identifier($0, "supplemental_groups") }
    }

    private static func identifier(_ value: Int64, _ name: String) throws -> UInt32 {
        // 2^32-1 means "no change" to the kernel and is nobody's id.
        guard let id = UInt32(exactly: value), id != .max else {
            throw SwiftletError(.invalidArgument, "\(field).\(name) \(value) is not an id from 0 to 4294967294")
        }
        return id
    }

    private static func addNamespaces(_ options: CRINamespaceOption, to spec: inout ContainerSpec) throws {
        for (mode, name) in [(options.network, "network"), (options.pid, "pid"), (options.ipc, "ipc")] where mode == .node {
            throw SwiftletError(
                .invalidArgument, "\(field).namespace_options.\(name): a container in a virtual machine cannot share the node's namespace")
        }
        switch options.pid {
        case .pod: spec.pidMode = .pod
        case .target:
            spec.pidMode = .target
            spec.pidTarget = options.targetID
        case .container, .node, .UNRECOGNIZED: spec.pidMode = .container
        }
    }
}

import CRI
import Errors
import Pods
import Runtime

/// Validates a LinuxContainerSecurityContext.
enum SecurityRequest {
    private static let field = "config.linux.security_context"

    static func add(_ context: CRILinuxContainerSecurityContext, to spec: inout ContainerSpec) throws {
        spec.privileged = context.privileged
        spec.readonlyRoot = context.readonlyRootfs
        spec.noNewPrivileges = context.noNewPrivs
        try addUser(context, to: &spec)
        spec.capabilities = ContainerSpec.Capabilities(
            add: context.capabilities.addCapabilities, drop: context.capabilities.dropCapabilities,
            ambient: context.capabilities.addAmbientCapabilities)
        for name in spec.capabilities.add + spec.capabilities.drop + spec.capabilities.ambient where !Capability.exists(name) {
            throw SwiftletError(.invalidArgument, "\(field).capabilities: \(quoted(name)) is unknown")
        }
        try NamespaceRequest.add(context.namespaceOptions, to: &spec, "\(field).namespace_options")
        for path in context.maskedPaths { try Validation.absolutePath(path, "\(field).masked_paths") }
        for path in context.readonlyPaths { try Validation.absolutePath(path, "\(field).readonly_paths") }
        // Nothing is added: a kubelet sends its default lists, and none of them for procMount Unmasked.
        (spec.maskedPaths, spec.readonlyPaths) = (context.maskedPaths, context.readonlyPaths)
        spec.security.seccomp = try ProfileRequest.seccomp(
            context.hasSeccomp ? context.seccomp : nil, path: context.seccompProfilePath, field)
        spec.security.policies = try ProfileRequest.policies(
            context.hasApparmor ? context.apparmor : nil, appArmorName: context.apparmorProfile, context.selinuxOptions, field)
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
        switch context.supplementalGroupsPolicy {
        case .merge: spec.security.strictGroups = false
        case .strict: spec.security.strictGroups = true
        case .UNRECOGNIZED(let policy):
            throw SwiftletError(.invalidArgument, "\(field).supplemental_groups_policy \(policy) is unknown")
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
}

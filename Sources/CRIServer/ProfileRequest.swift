import CRI
import Errors
import Pods
import Runtime

/// Validates the seccomp, AppArmor and SELinux fields of a security context.
enum ProfileRequest {
    /// A sandbox has no process of its own that its profiles could confine; they must make sense all the same.
    static func check(_ context: CRILinuxSandboxSecurityContext, _ field: String) throws {
        _ = try seccomp(context.hasSeccomp ? context.seccomp : nil, path: context.seccompProfilePath, field)
        try appArmor(context.hasApparmor ? context.apparmor : nil, name: "", field)
        try selinux(context.selinuxOptions, field)
        guard context.hasRunAsUser || !context.hasRunAsGroup else {
            throw SwiftletError(.invalidArgument, "\(field).run_as_group needs run_as_user")
        }
    }

    /// - Parameter path: the deprecated form: "unconfined", "runtime/default", "docker/default" or "localhost/PATH".
    static func seccomp(_ profile: CRISecurityProfile?, path: String, _ field: String) throws -> ContainerSecurity.Seccomp {
        guard let profile else { return try seccomp(path: path, "\(field).seccomp_profile_path") }
        switch profile.profileType {
        case .runtimeDefault:
            try requireNoReference(profile, "\(field).seccomp")
            return .runtimeDefault
        case .unconfined:
            try requireNoReference(profile, "\(field).seccomp")
            return .unconfined
        case .localhost:
            try Validation.absolutePath(profile.localhostRef, "\(field).seccomp.localhost_ref")
            return .localhost(profile.localhostRef)
        case .UNRECOGNIZED(let type):
            throw SwiftletError(.invalidArgument, "\(field).seccomp.profile_type \(type) is unknown")
        }
    }

    private static func seccomp(path: String, _ field: String) throws -> ContainerSecurity.Seccomp {
        let prefix = "localhost/"
        switch path {
        case "", "unconfined": return .unconfined
        case "runtime/default", "docker/default": return .runtimeDefault
        case _ where path.hasPrefix(prefix):
            let file = String(path.dropFirst(prefix.count))
            try Validation.absolutePath(file, field)
            return .localhost(file)
        default:
            throw SwiftletError(
                .invalidArgument, "\(field) \(quoted(path)) is not unconfined, runtime/default or localhost/PATH")
        }
    }

    private static func requireNoReference(_ profile: CRISecurityProfile, _ field: String) throws {
        guard profile.localhostRef.isEmpty else {
            throw SwiftletError(.invalidArgument, "\(field).localhost_ref goes with profile_type Localhost only")
        }
    }

    /// The guest's kernel has no AppArmor. The runtime's default profile is empty then; a profile that somebody has written must
    /// not be left out unnoticed.
    static func appArmor(_ profile: CRISecurityProfile?, name: String, _ field: String) throws {
        let refusal = SwiftletError(.unimplemented, "\(field).apparmor: the guest has no AppArmor to load a profile of the node into")
        guard let profile else {
            switch name {
            case "", "unconfined", "runtime/default": return
            case _ where name.hasPrefix("localhost/"): throw refusal
            default:
                throw SwiftletError(
                    .invalidArgument,
                    "\(field).apparmor_profile \(quoted(name)) is not unconfined, runtime/default or localhost/NAME")
            }
        }
        switch profile.profileType {
        case .runtimeDefault, .unconfined: try requireNoReference(profile, "\(field).apparmor")
        case .localhost: throw refusal
        case .UNRECOGNIZED(let type): throw SwiftletError(.invalidArgument, "\(field).apparmor.profile_type \(type) is unknown")
        }
    }

    /// The types that container runtimes give by themselves (container-selinux), which a machine's boundary stands for.
    private static let standardTypes: Set<String> = ["", "container_t", "container_kvm_t", "container_init_t", "spc_t", "svirt_lxc_net_t"]

    /// A level keeps pods apart from each other and from the node, which machines do; a type of one's own is a policy that the
    /// guest cannot enforce.
    static func selinux(_ options: CRISELinuxOption, _ field: String) throws {
        for (value, name) in [
            (options.user, "user"), (options.role, "role"), (options.type, "type"), (options.level, "level"),
        ] { try Validation.word(value, "\(field).selinux_options.\(name)") }
        guard standardTypes.contains(options.type) else {
            throw SwiftletError(
                .unimplemented,
                "\(field).selinux_options.type \(quoted(options.type)): the guest has no SELinux to enforce it")
        }
    }
}

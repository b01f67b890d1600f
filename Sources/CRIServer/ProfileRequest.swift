import CRI
import Errors
import Pods
import Runtime

/// Validates the seccomp, AppArmor and SELinux fields of a security context.
enum ProfileRequest {
    /// A sandbox has no process of its own that its profiles could confine; they must make sense all the same.
    static func policies(_ context: CRILinuxSandboxSecurityContext, _ field: String) throws -> SecurityPolicies? {
        _ = try seccomp(context.hasSeccomp ? context.seccomp : nil, path: context.seccompProfilePath, field)
        guard context.hasRunAsUser || !context.hasRunAsGroup else {
            throw SwiftletError(.invalidArgument, "\(field).run_as_group needs run_as_user")
        }
        return try policies(context.hasApparmor ? context.apparmor : nil, appArmorName: "", context.selinuxOptions, field)
    }

    /// - Parameter appArmorName: the deprecated form: "unconfined", "runtime/default" or "localhost/NAME".
    static func policies(
        _ profile: CRISecurityProfile?, appArmorName: String, _ selinux: CRISELinuxOption, _ field: String
    ) throws -> SecurityPolicies? {
        let options = SELinuxOptions(user: selinux.user, role: selinux.role, type: selinux.type, level: selinux.level)
        let policies = SecurityPolicies(
            appArmorProfile: try appArmor(profile, name: appArmorName, field), selinuxType: try self.selinux(selinux, field),
            selinux: options == SELinuxOptions() ? nil : options)
        return policies == SecurityPolicies() ? nil : policies
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

    /// The profile that somebody has written; nil for the runtime's own, and for none.
    private static func appArmor(_ profile: CRISecurityProfile?, name: String, _ field: String) throws -> String? {
        guard let profile else {
            let prefix = "localhost/"
            switch name {
            case "", "unconfined", "runtime/default": return nil
            case _ where name.hasPrefix(prefix): return String(name.dropFirst(prefix.count))
            default:
                throw SwiftletError(
                    .invalidArgument,
                    "\(field).apparmor_profile \(quoted(name)) is not unconfined, runtime/default or localhost/NAME")
            }
        }
        switch profile.profileType {
        case .runtimeDefault, .unconfined:
            try requireNoReference(profile, "\(field).apparmor")
            return nil
        case .localhost: return profile.localhostRef
        case .UNRECOGNIZED(let type): throw SwiftletError(.invalidArgument, "\(field).apparmor.profile_type \(type) is unknown")
        }
    }

    /// The types that container runtimes give by themselves (container-selinux), which a machine's boundary stands for.
    private static let standardTypes: Set<String> = ["", "container_t", "container_kvm_t", "container_init_t", "spc_t", "svirt_lxc_net_t"]

    /// A type of one's own is a policy; a level only keeps pods apart from each other and from the node, which machines do.
    private static func selinux(_ options: CRISELinuxOption, _ field: String) throws -> String? {
        for (value, name) in [
            (options.user, "user"), (options.role, "role"), (options.type, "type"), (options.level, "level"),
        ] { try Validation.word(value, "\(field).selinux_options.\(name)") }
        return standardTypes.contains(options.type) ? nil : options.type
    }
}

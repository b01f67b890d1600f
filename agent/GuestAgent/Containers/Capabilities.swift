import AgentProtocol
import CContainer
import Errors

/// capabilities(7) by name; the index is the kernel's number.
enum CapabilityNames {
    static let all = [
        "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
        "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
        "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
        "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
        "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
        "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
    ]

    private static let bits: [String: UInt64] = Dictionary(
        uniqueKeysWithValues: all.enumerated().map { ($0.element, UInt64(1) << UInt64($0.offset)) })

    /// - Throws: `.invalidArgument` naming the first unknown capability.
    static func mask(_ names: [String]) throws(SwiftletError) -> UInt64 {
        var mask: UInt64 = 0
        for name in names {
            guard let bit = bits[name] else {
                throw SwiftletError(.invalidArgument, "unknown capability \"\(printable(name))\": use names as in capabilities(7)")
            }
            mask |= bit
        }
        return mask
    }
}

extension cc_capabilities {
    /// The wanted sets, without what the machine denies to the agent itself.
    /// - Throws: `.invalidArgument` for unknown names and for sets that the kernel cannot give.
    init(_ wanted: AgentCapabilities, available: UInt64) throws(SwiftletError) {
        self.init(
            bounding: try CapabilityNames.mask(wanted.bounding) & available,
            permitted: try CapabilityNames.mask(wanted.permitted) & available,
            effective: try CapabilityNames.mask(wanted.effective) & available,
            inheritable: try CapabilityNames.mask(wanted.inheritable) & available,
            ambient: try CapabilityNames.mask(wanted.ambient) & available)
        guard effective & ~permitted == 0 else {
            throw SwiftletError(.invalidArgument, "effective capabilities must be permitted as well")
        }
        guard ambient & ~(permitted & inheritable) == 0 else {
            throw SwiftletError(.invalidArgument, "ambient capabilities must be permitted and inheritable as well")
        }
    }
}

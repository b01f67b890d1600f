import AgentProtocol
import Errors
import Foundation
import PodNetwork

/// Turns the heart's plans into the agent's messages.
enum GuestSpec {
    /// What containers may do unless told otherwise: the set that Docker and containerd give.
    static let defaultCapabilities = [
        "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
    ]
    /// capabilities(7), in the kernel's numbering, up to Linux 6.1.
    static let allCapabilities = [
        "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
        "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
        "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
        "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
        "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
    ]

    static func container(_ plan: ContainerPlan) -> AgentContainerSpec {
        let spec = plan.spec
        return .with {
            $0.root = .with {
                $0.layers = plan.rootfs.layers.map { layer in
                    .with {
                        $0.serial = layer.serial
                        $0.filesystem = layer.filesystem
                    }
                }
                $0.readonly = spec.readonlyRoot
            }
            $0.process = process(plan)
            $0.maskedPaths = spec.privileged ? [] : spec.maskedPaths
            $0.readonlyPaths = spec.privileged ? [] : spec.readonlyPaths
            $0.pidMode = pidMode(spec.pidMode)
            $0.pidTarget = spec.pidTarget
            $0.resources.unified = spec.cgroup
            $0.privileged = spec.privileged
        }
    }

    private static func pidMode(_ mode: ContainerSpec.PidMode) -> AgentPidMode {
        switch mode {
        case .container: .pidContainer
        case .pod: .pidPod
        case .target: .pidTarget
        }
    }

    private static func process(_ plan: ContainerPlan) -> AgentProcessSpec {
        let spec = plan.spec
        return .with {
            $0.args = plan.arguments
            $0.env = plan.environment
            $0.cwd = plan.workingDirectory
            $0.terminal = spec.terminal
            $0.stdin = spec.stdin
            $0.user = .with {
                $0.name = plan.user
                $0.additionalGids = spec.supplementalGroups
                if let group = spec.group {
                    $0.gid = group
                    $0.gidSet = true
                }
            }
            $0.capabilities = capabilities(spec)
            $0.noNewPrivileges = spec.noNewPrivileges
            if let adjustment = spec.oomScoreAdjustment { $0.oomScoreAdj = adjustment }
        }
    }

    static func capabilities(_ spec: ContainerSpec) -> AgentCapabilities {
        let names = spec.privileged ? allCapabilities : adjusted(spec.capabilities)
        return .with {
            $0.bounding = names
            $0.permitted = names
            $0.effective = names
            $0.inheritable = spec.capabilities.ambient.map(qualified)
            $0.ambient = spec.capabilities.ambient.map(qualified)
        }
    }

    /// Drops before adds, as the CRI says: "ALL" among the drops leaves only what is added.
    private static func adjusted(_ request: ContainerSpec.Capabilities) -> [String] {
        let drops = Set(request.drop.map(qualified))
        let adds = (request.add + request.ambient).map(qualified)
        if adds.contains("CAP_ALL") { return allCapabilities.filter { !drops.contains($0) } }
        let kept = drops.contains("CAP_ALL") ? [] : defaultCapabilities.filter { !drops.contains($0) }
        return kept + adds.filter { !kept.contains($0) }
    }

    private static func qualified(_ name: String) -> String {
        let upper = name.uppercased()
        return upper.hasPrefix("CAP_") ? upper : "CAP_" + upper
    }
}

import AgentProtocol
import Errors
import Foundation
import PodNetwork
import Runtime
import Volumes

/// Turns the heart's plans into the agent's messages.
enum GuestSpec {
    static func container(_ plan: ContainerPlan) throws -> AgentContainerSpec {
        let spec = plan.spec
        return try .with {
            $0.root = .with {
                $0.layers = plan.root.layers.map { layer in
                    .with {
                        $0.serial = layer.serial
                        $0.filesystem = layer.filesystem
                    }
                }
                $0.readonly = spec.readonlyRoot
            }
            $0.volumes = plan.volumes
            $0.process = try process(plan)
            $0.maskedPaths = spec.privileged ? [] : spec.maskedPaths
            $0.readonlyPaths = spec.privileged ? [] : spec.readonlyPaths
            $0.pidMode = pidMode(spec.pidMode)
            $0.pidTarget = spec.pidTarget
            $0.resources.unified = spec.resources.cgroupFiles
            $0.privileged = spec.privileged
            addSecurity(spec.security, to: &$0)
        }
    }

    private static func pidMode(_ mode: ContainerSpec.PidMode) -> AgentPidMode {
        switch mode {
        case .container: .pidContainer
        case .pod: .pidPod
        case .target: .pidTarget
        // Refused by the handler's capabilities.
        case .node: .pidContainer
        }
    }

    private static func process(_ plan: ContainerPlan) throws -> AgentProcessSpec {
        let spec = plan.spec
        return try .with {
            $0.args = plan.arguments
            $0.env = plan.environment.map { Data($0.bytes) }
            $0.cwd = plan.workingDirectory
            $0.terminal = spec.terminal
            $0.stdin = spec.stdin
            $0.user = .with {
                switch plan.user.user {
                case .id(let uid): $0.uid = uid
                case .name(let name): $0.name = name
                }
                switch plan.user.group {
                case .id(let gid): ($0.gid, $0.gidSet) = (gid, true)
                case .name(let name): $0.name += ":\(name)"
                case nil: break
                }
                $0.additionalGids = spec.supplementalGroups
                $0.strictGroups = spec.security.strictGroups
                if let group = spec.group {
                    $0.gid = group
                    $0.gidSet = true
                }
            }
            $0.capabilities = capabilities(spec)
            $0.noNewPrivileges = spec.noNewPrivileges
            if let seccomp = plan.seccomp { $0.seccomp = try seccomp.message() }
            if let adjustment = spec.oomScoreAdjustment { $0.oomScoreAdj = adjustment }
        }
    }

    private static func addSecurity(_ security: ContainerSecurity, to spec: inout AgentContainerSpec) {
        switch security.ipcMode {
        case .pod: spec.ipcMode = .ipcPod
        case .container: spec.ipcMode = .ipcContainer
        case .target: spec.ipcMode = .ipcTarget
        // Refused by the handler's capabilities.
        case .node: spec.ipcMode = .ipcPod
        }
        spec.ipcTarget = security.ipcTarget
        if let namespace = security.userNamespace {
            spec.userNamespace.uids = namespace.uids.map(mapping)
            spec.userNamespace.gids = namespace.gids.map(mapping)
        }
        spec.devices = security.devices.compactMap { device in
            guard let number = CommonDevice.numbers[device.hostPath] else { return nil }
            return .with {
                $0.path = device.containerPath
                $0.type = "c"
                $0.major = number.major
                $0.minor = number.minor
                $0.access = device.access
            }
        }
    }

    private static func mapping(_ mapping: IDMapping) -> AgentIdMapping {
        .with {
            $0.containerID = mapping.containerID
            $0.hostID = mapping.hostID
            $0.length = mapping.length
        }
    }

    static func capabilities(_ spec: ContainerSpec) -> AgentCapabilities {
        let names = Capability.held(spec.capabilities, privileged: spec.privileged)
        let ambient = Capability.qualified(spec.capabilities.ambient)
        return .with {
            $0.bounding = names
            $0.permitted = names
            $0.effective = names
            $0.inheritable = ambient
            $0.ambient = ambient
        }
    }
}

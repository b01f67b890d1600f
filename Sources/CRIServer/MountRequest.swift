import CRI
import Errors
import Pods
import Runtime

/// Validates the mounts of a ContainerConfig.
enum MountRequest {
    /// Mounts of one container, which the node and the guest hold.
    private static let mostMounts = 512
    /// Options of a mount without a filesystem of its own (mount_setattr(2)).
    private static let options: Set<String> = [
        "noexec", "exec", "nosuid", "suid", "nodev", "dev", "noatime", "relatime", "strictatime", "nodiratime", "diratime",
    ]

    static func mounts(_ mounts: [CRIMount]) throws -> [ContainerMount] {
        guard mounts.count <= mostMounts else {
            throw SwiftletError(.invalidArgument, "config.mounts has \(mounts.count) entries; at most \(mostMounts) are allowed")
        }
        return try mounts.map(mount)
    }

    private static func mount(_ message: CRIMount) throws -> ContainerMount {
        try Validation.absolutePath(message.containerPath, "config.mounts.container_path")
        guard message.containerPath.contains(where: { $0 != "/" && $0 != "." }) else {
            throw SwiftletError(.invalidArgument, "config.mounts.container_path \"/\" is the container's own root")
        }
        let field = "config.mounts \(quoted(message.containerPath))"
        var mount = ContainerMount(containerPath: message.containerPath)
        mount.readOnly = message.readonly
        mount.selinuxRelabel = message.selinuxRelabel
        mount.propagation = try propagation(message.propagation, field)
        mount.recursiveReadOnly = message.recursiveReadOnly
        if message.recursiveReadOnly {
            guard message.readonly else { throw SwiftletError(.invalidArgument, "\(field): recursive_read_only needs readonly") }
            guard mount.propagation == .none else {
                throw SwiftletError(.invalidArgument, "\(field): recursive_read_only needs propagation PROPAGATION_PRIVATE")
            }
        }
        for option in message.mountOptions {
            guard options.contains(option) else {
                throw SwiftletError(
                    .invalidArgument,
                    "\(field): mount_options \(quoted(option)) is none of \(options.sorted().joined(separator: ", "))")
            }
        }
        mount.options = message.mountOptions
        mount.mappings = try mappings(message, field)
        if message.hasImage, !message.image.image.isEmpty {
            try addImage(message, field, to: &mount)
        } else {
            guard message.imageSubPath.isEmpty else { throw SwiftletError(.invalidArgument, "\(field): image_sub_path needs image") }
            try Validation.absolutePath(message.hostPath, "\(field): host_path")
            mount.hostPath = message.hostPath
        }
        return mount
    }

    private static func addImage(_ message: CRIMount, _ field: String, to mount: inout ContainerMount) throws {
        guard message.hostPath.isEmpty else {
            throw SwiftletError(.invalidArgument, "\(field): host_path and image exclude each other")
        }
        try Validation.word(message.image.image, "\(field): image.image")
        mount.image = message.image.image
        try Validation.relativePath(message.imageSubPath, "\(field): image_sub_path")
        mount.imageSubPath = message.imageSubPath
        guard message.readonly else {
            throw SwiftletError(.invalidArgument, "\(field): image needs readonly: the files of an image cannot be written")
        }
    }

    private static func propagation(_ value: CRIMountPropagation, _ field: String) throws -> ContainerMount.Propagation {
        switch value {
        case .propagationPrivate: return .none
        case .propagationHostToContainer: return .hostToContainer
        case .propagationBidirectional: return .bidirectional
        case .UNRECOGNIZED(let number):
            throw SwiftletError(.invalidArgument, "\(field): propagation \(number) is unknown")
        }
    }

    /// Both maps or none; ranges that overlap are the kernel's to refuse.
    private static func mappings(_ message: CRIMount, _ field: String) throws -> IDMappings? {
        guard !message.uidMappings.isEmpty || !message.gidMappings.isEmpty else { return nil }
        guard !message.uidMappings.isEmpty, !message.gidMappings.isEmpty else {
            throw SwiftletError(.invalidArgument, "\(field): uidMappings and gidMappings must be given together")
        }
        let mappings = IDMappings(
            uids: try message.uidMappings.map { try IDMapping($0, "\(field): uidMappings") },
            gids: try message.gidMappings.map { try IDMapping($0, "\(field): gidMappings") })
        // user_namespaces(7): at most 340 lines.
        guard mappings.uids.count <= 340, mappings.gids.count <= 340 else {
            throw SwiftletError(.invalidArgument, "\(field): uidMappings and gidMappings may have 340 ranges each")
        }
        return mappings
    }

}

extension IDMapping {
    /// - Parameter field: where the client wrote it, for the message.
    /// - Throws: `.invalidArgument` naming the field.
    init(_ message: CRIIDMapping, _ field: String) throws {
        do {
            try self.init(validating: message.containerID, hostID: message.hostID, length: message.length)
        } catch {
            throw error.during(field)
        }
    }
}

/// Mounts as CRI messages.
enum MountMessage {
    static func mount(_ mount: ContainerMount) -> CRIMount {
        .with {
            $0.containerPath = mount.containerPath
            $0.hostPath = mount.hostPath
            $0.readonly = mount.readOnly
            $0.recursiveReadOnly = mount.recursiveReadOnly
            $0.selinuxRelabel = mount.selinuxRelabel
            $0.propagation =
                switch mount.propagation {
                case .none: .propagationPrivate
                case .hostToContainer: .propagationHostToContainer
                case .bidirectional: .propagationBidirectional
                }
            $0.mountOptions = mount.options
            $0.uidMappings = mount.mappings?.uids.map(mapping) ?? []
            $0.gidMappings = mount.mappings?.gids.map(mapping) ?? []
            if !mount.image.isEmpty {
                $0.image.image = mount.image
                $0.image.imageRef = mount.imageReference ?? ""
            }
            $0.imageSubPath = mount.imageSubPath
        }
    }

    static func mapping(_ mapping: IDMapping) -> CRIIDMapping {
        .with {
            $0.containerID = mapping.containerID
            $0.hostID = mapping.hostID
            $0.length = mapping.length
        }
    }
}

import AgentProtocol
import Errors

/// MOUNT_ATTR_* of mount_setattr(2).
enum MountAttribute {
    static let readOnly: UInt64 = 0x1
    static let noSuid: UInt64 = 0x2
    static let noDev: UInt64 = 0x4
    static let noExec: UInt64 = 0x8
    static let accessTimes: UInt64 = 0x70
    static let noAccessTime: UInt64 = 0x10
    static let strictAccessTime: UInt64 = 0x20
    static let noDirectoryAccessTime: UInt64 = 0x80
}

/// MS_* propagation types of mount(2).
enum MountPropagation {
    static let unbindable: UInt64 = 1 << 17
    static let `private`: UInt64 = 1 << 18
    static let slave: UInt64 = 1 << 19
    static let shared: UInt64 = 1 << 20
}

/// One mount of a container, its options taken apart.
struct MountPlan: Sendable, Equatable {
    struct Parameter: Sendable, Equatable {
        var key: String
        /// nil: a flag.
        var value: String?
    }

    /// Absolute, without ".", ".." and doubled slashes.
    var target: String
    var source: String?
    /// nil: a bind mount.
    var filesystem: String?
    var parameters: [Parameter] = []
    var recursive = false
    var attributesRecursive = false
    var attributesSet: UInt64 = 0
    var attributesCleared: UInt64 = 0
    var propagation: UInt64 = MountPropagation.private
    /// Refuse a target that the image made a symbolic link.
    var refusesLinks = false
    /// Leave the mount out when the kernel lacks the filesystem.
    var ifSupported = false
    /// A directory of the container's root itself, which is to be there and writable, whatever the root is.
    var isOwn = false

    /// What a spec may have mounted by name: the filesystems that OCI runtimes' specs have. Anything else that is no volume is one of
    /// a later host's.
    private static let filesystems: Set<String> = ["cgroup2", "devpts", "mqueue", "proc", "sysfs", "tmpfs"]

    /// Longest value that fsconfig(2) takes.
    private static let longestParameter = 255

    init(target: String, source: String?, filesystem: String?, options: [String] = []) throws(SwiftletError) {
        self.target = target
        self.source = source
        self.filesystem = filesystem
        for option in options { try apply(option) }
    }

    /// A volume of the image.
    ///
    /// - Throws: `.invalidArgument` naming the path.
    init(volume path: String) throws(SwiftletError) {
        try self.init(target: try containerPath(path, "volume of the image"), source: nil, filesystem: nil)
        isOwn = true
    }

    /// - Throws: `.invalidArgument` naming the destination.
    init(_ spec: AgentMountSpec) throws(SwiftletError) {
        let target = try containerPath(spec.destination, "mount destination")
        do throws(SwiftletError) {
            let isBind = try Self.isBind(spec)
            // What a volume's source will be is known once it has been brought into the guest (ContainerVolumes).
            if AgentVolumeType(rawValue: spec.type) != nil {
                try self.init(target: target, source: "/", filesystem: nil, options: spec.options)
            } else if isBind {
                let source = try containerPath(spec.source, "mount source")
                try self.init(target: target, source: source, filesystem: nil, options: spec.options)
            } else {
                try requireText(spec.source, "mount source", limit: Self.longestParameter)
                let source = spec.source.isEmpty ? spec.type : spec.source
                try self.init(target: target, source: source, filesystem: spec.type, options: spec.options)
            }
        } catch {
            throw error.during("mount \(printable(target))")
        }
    }

    /// - Throws: `.invalidArgument` naming a type that is neither a bind mount, a volume nor a filesystem that a spec may have.
    private static func isBind(_ spec: AgentMountSpec) throws(SwiftletError) -> Bool {
        if ["bind", "none", ""].contains(spec.type) { return true }
        guard filesystems.contains(spec.type) || AgentVolumeType(rawValue: spec.type) != nil else {
            throw SwiftletError(.invalidArgument, "type \"\(printable(spec.type))\" is none that this agent knows")
        }
        return spec.options.contains { $0 == "bind" || $0 == "rbind" }
    }

    private mutating func set(_ attribute: UInt64, _ on: Bool) {
        if on {
            attributesSet |= attribute
            attributesCleared &= ~attribute
        } else {
            attributesSet &= ~attribute
            attributesCleared |= attribute
        }
    }

    private mutating func setAccessTime(_ mode: UInt64) {
        attributesSet = attributesSet & ~MountAttribute.accessTimes | mode
        attributesCleared |= MountAttribute.accessTimes
    }

    private mutating func apply(_ option: String) throws(SwiftletError) {
        switch option {
        case "", "defaults", "bind", "nofail": break
        case "rbind": recursive = true
        case "ro": set(MountAttribute.readOnly, true)
        case "rw": set(MountAttribute.readOnly, false)
        case "rro":
            set(MountAttribute.readOnly, true)
            attributesRecursive = true
        case "nosuid": set(MountAttribute.noSuid, true)
        case "suid": set(MountAttribute.noSuid, false)
        case "nodev": set(MountAttribute.noDev, true)
        case "dev": set(MountAttribute.noDev, false)
        case "noexec": set(MountAttribute.noExec, true)
        case "exec": set(MountAttribute.noExec, false)
        case "noatime": setAccessTime(MountAttribute.noAccessTime)
        case "strictatime": setAccessTime(MountAttribute.strictAccessTime)
        case "relatime", "atime": setAccessTime(0)
        case "nodiratime": set(MountAttribute.noDirectoryAccessTime, true)
        case "diratime": set(MountAttribute.noDirectoryAccessTime, false)
        case "private", "rprivate": propagation = MountPropagation.private
        case "slave", "rslave": propagation = MountPropagation.slave
        case "shared", "rshared": propagation = MountPropagation.shared
        case "unbindable", "runbindable": propagation = MountPropagation.unbindable
        default: try addParameter(option)
        }
    }

    private mutating func addParameter(_ option: String) throws(SwiftletError) {
        guard filesystem != nil else {
            throw SwiftletError(.invalidArgument, "a bind mount has no option \"\(printable(option))\"")
        }
        try requireText(option, "mount option", limit: Self.longestParameter)
        let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        parameters.append(Parameter(key: String(parts[0]), value: parts.count > 1 ? String(parts[1]) : nil))
    }
}

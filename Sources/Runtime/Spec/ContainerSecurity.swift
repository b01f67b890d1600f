/// What confines a container beside its user and capabilities.
public struct ContainerSecurity: Codable, Sendable, Equatable {
    /// Which system calls a container may make.
    public enum Seccomp: Codable, Sendable, Equatable {
        case unconfined
        /// The guest agent's own profile.
        case runtimeDefault
        /// The absolute path of a profile on the node.
        case localhost(String)
    }

    public enum IPCMode: String, Codable, Sendable {
        case pod
        case container
        case target
        case node
    }

    public var seccomp = Seccomp.unconfined
    /// The image's /etc/group adds nothing to the supplementary groups.
    public var strictGroups = false
    public var ipcMode = IPCMode.pod
    /// The container whose IPC namespace is joined.
    public var ipcTarget = ""
    /// Nil: the guest's own users.
    public var userNamespace: IDMappings?
    public var devices: [ContainerDevice] = []
    /// Nil: none.
    public var cdiDevices: [CDIDevice]?
    /// Nil: nothing but what every container gets.
    public var policies: SecurityPolicies?

    public init() {}
}

/// Policies of the node's security modules that somebody has written for a pod or a container.
public struct SecurityPolicies: Codable, Sendable, Equatable {
    /// The name of a loaded AppArmor profile; nil: the runtime's own, or none.
    public var appArmorProfile: String?
    /// An SELinux type; nil: the runtime's own.
    public var selinuxType: String?
    /// All that was said of an SELinux label, also where a handler without SELinux may leave it out; nil: nothing.
    public var selinux: SELinuxOptions?

    public init(appArmorProfile: String? = nil, selinuxType: String? = nil, selinux: SELinuxOptions? = nil) {
        self.appArmorProfile = appArmorProfile
        self.selinuxType = selinuxType
        self.selinux = selinux
    }
}

/// Parts of an SELinux label; an empty one: the runtime's own.
public struct SELinuxOptions: Codable, Sendable, Equatable {
    public var user: String
    public var role: String
    public var type: String
    /// "s0:c1,c2"
    public var level: String

    public init(user: String = "", role: String = "", type: String = "", level: String = "") {
        (self.user, self.role, self.type, self.level) = (user, role, type, level)
    }
}

/// A device that a container asks for.
public struct ContainerDevice: Codable, Sendable, Equatable {
    /// Of the node.
    public var hostPath: String
    /// Where the container finds it.
    public var containerPath: String
    /// Letters of "rwm".
    public var access: String

    public init(hostPath: String, containerPath: String, access: String) {
        self.hostPath = hostPath
        self.containerPath = containerPath
        self.access = access
    }
}

/// Who a container's first process is, as the guest looked it up in the image.
public struct ContainerUser: Codable, Sendable, Equatable {
    public var uid: UInt32
    public var gid: UInt32
    /// With `gid`, as the process has them.
    public var groups: [UInt32]

    public init(uid: UInt32, gid: UInt32, groups: [UInt32]) {
        self.uid = uid
        self.gid = gid
        self.groups = groups
    }
}

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
    }

    public var seccomp = Seccomp.unconfined
    /// The image's /etc/group adds nothing to the supplementary groups.
    public var strictGroups = false
    public var ipcMode = IPCMode.pod
    /// The container whose IPC namespace is joined.
    public var ipcTarget = ""
    /// Nil: the guest's own users.
    public var userNamespace: IDMappings?
    public var devices: [GuestDevice] = []

    public init() {}
}

/// A device of the guest that a container asks for.
public struct GuestDevice: Codable, Sendable, Equatable {
    /// Where the container finds it.
    public var path: String
    public var major: UInt32
    public var minor: UInt32
    /// Letters of "rwm".
    public var access: String

    public init(path: String, major: UInt32, minor: UInt32, access: String) {
        self.path = path
        self.major = major
        self.minor = minor
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

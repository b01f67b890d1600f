import Errors

/// What the containers of a pod find around them in the guest.
public struct SandboxEnvironment: Sendable {
    /// Mounted scratch disk of the pod: container roots, removed again with each container. Usable after ``awaitStorage``.
    public var scratchDirectory: String
    /// Answers when disks can be used and the scratch disk is mounted: later than the sandbox is ready.
    public var awaitStorage: @Sendable () throws(SwiftletError) -> Void
    /// The block device of a layer's SCSI serial, "/dev/sdb".
    public var diskPath: @Sendable (_ serial: String) throws(SwiftletError) -> String
    /// Content of each container's /etc/hostname.
    public var hostname: String
    /// The file that containers see as /etc/resolv.conf.
    public var resolvConfPath: String
    /// The file that containers see as /etc/hosts.
    public var hostsPath: String
    /// Where the guest's cgroup v2 is mounted.
    public var cgroupRoot: String
    /// What the pod's containers share; one object for all of them.
    public var shared: PodSharedState
    /// The directory of the pod's share, by the tag of its device.
    public var shareDirectory: @Sendable (_ tag: String) throws(SwiftletError) -> String
    /// The pod's volumes in memory; one object for all containers.
    public var memoryVolumes: MemoryVolumes

    public init(
        scratchDirectory: String, awaitStorage: @escaping @Sendable () throws(SwiftletError) -> Void = { () throws(SwiftletError) in },
        diskPath: @escaping @Sendable (_ serial: String) throws(SwiftletError) -> String, hostname: String,
        resolvConfPath: String, hostsPath: String, cgroupRoot: String, shared: PodSharedState,
        shareDirectory: @escaping @Sendable (_ tag: String) throws(SwiftletError) -> String = Self.noShare,
        memoryVolumes: MemoryVolumes? = nil
    ) {
        self.scratchDirectory = scratchDirectory
        self.awaitStorage = awaitStorage
        self.diskPath = diskPath
        self.hostname = hostname
        self.resolvConfPath = resolvConfPath
        self.hostsPath = hostsPath
        self.cgroupRoot = cgroupRoot
        self.shared = shared
        self.shareDirectory = shareDirectory
        self.memoryVolumes = memoryVolumes ?? MemoryVolumes(directory: "\(scratchDirectory)/memory")
    }

    /// For surroundings without a host that shares files.
    public static let noShare: @Sendable (_ tag: String) throws(SwiftletError) -> String = { _ throws(SwiftletError) in
        throw SwiftletError(.failedPrecondition, "share_tag: nothing is shared with these containers")
    }
}

/// A process's user after names have been looked up in the container's own files.
public struct ResolvedUser: Sendable, Equatable {
    public var uid: UInt32
    public var gid: UInt32
    /// Groups beside `gid`, ascending.
    public var additionalGIDs: [UInt32]

    public init(uid: UInt32, gid: UInt32, additionalGIDs: [UInt32]) {
        self.uid = uid
        self.gid = gid
        self.additionalGIDs = additionalGIDs
    }
}

/// The descriptors that become a process's 0, 1 and 2. They stay the caller's to close.
public struct ProcessDescriptors: Sendable {
    public var stdin: Int32
    public var stdout: Int32
    public var stderr: Int32
    /// All three are the slave of one terminal, which becomes the process's controlling terminal.
    public var terminal: Bool

    public init(stdin: Int32, stdout: Int32, stderr: Int32, terminal: Bool) {
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.terminal = terminal
    }
}

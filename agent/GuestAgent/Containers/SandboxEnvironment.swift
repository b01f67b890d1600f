import AgentProtocol
import Errors

/// What the containers of a pod find around them in the guest.
public struct SandboxEnvironment: Sendable {
    /// The pod's scratch disk: container roots, removed again with each container. Usable after ``mountScratch``.
    public var scratchDirectory: String
    /// SCSI serial of the scratch disk; empty: it is no disk.
    public var scratchSerial: String
    /// Mounts the scratch disk, which is there, unless it is mounted.
    public var mountScratch: @Sendable () throws(SwiftletError) -> Void
    /// Waits for what the host plugs in.
    public var devices: DeviceWaits
    /// Has the kernel's modules loaded that volumes and devices need. - Returns: whether they are there.
    public var volumeModules: @Sendable () -> Bool
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
    /// The pod's volumes; one object for all containers.
    public var volumes: PodVolumes
    /// Of the guest's kernel; nil for containers outside a guest.
    var demandedModules: DemandedModules?

    public init(
        scratchDirectory: String, scratchSerial: String = "",
        mountScratch: @escaping @Sendable () throws(SwiftletError) -> Void = { () throws(SwiftletError) in },
        devices: DeviceWaits = .none, volumeModules: @escaping @Sendable () -> Bool = { true },
        diskPath: @escaping @Sendable (_ serial: String) throws(SwiftletError) -> String, hostname: String,
        resolvConfPath: String, hostsPath: String, cgroupRoot: String, shared: PodSharedState, volumes: PodVolumes? = nil
    ) {
        self.scratchDirectory = scratchDirectory
        self.scratchSerial = scratchSerial
        self.mountScratch = mountScratch
        self.devices = devices
        self.volumeModules = volumeModules
        self.diskPath = diskPath
        self.hostname = hostname
        self.resolvConfPath = resolvConfPath
        self.hostsPath = hostsPath
        self.cgroupRoot = cgroupRoot
        self.shared = shared
        self.volumes = volumes ?? PodVolumes(directory: scratchDirectory)
    }

    /// What every container waits for.
    var scratchDevices: AwaitedDevices { AwaitedDevices(disks: scratchSerial.isEmpty ? [] : [scratchSerial]) }

    /// What a container of this spec waits for.
    ///
    /// - Throws: `.invalidArgument` naming what no device can be called.
    func devices(for spec: AgentContainerSpec) throws(SwiftletError) -> AwaitedDevices {
        var devices = scratchDevices
        devices.disks.formUnion(spec.root.layers.map(\.serial))
        devices.formUnion(try ContainerVolumes.devices(spec, environment: self))
        // A privileged container opens what it likes.
        if !devices.others.isEmpty || !spec.devices.isEmpty || spec.privileged {
            devices.others["kernel module for volumes"] = volumeModules
        }
        if !spec.modulesSerial.isEmpty { devices.disks.insert(spec.modulesSerial) }
        for serial in devices.disks { try ScsiDisks.check(serial) }
        return devices
    }
}

extension SandboxEnvironment {
    /// Lets the kernel ask for modules while a container is there that has their disk.
    func allowModules(_ serial: String, for container: String) throws(SwiftletError) {
        guard !serial.isEmpty, let demandedModules else { return }
        try demandedModules.use(try diskPath(serial), by: container)
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

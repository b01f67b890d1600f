import GuestHardware
import Runtime

/// All that a seed says to a guest.
public struct SeedRequest: Sendable {
    public var pod: SandboxSpec.Metadata
    /// The guest's, without a domain.
    public var hostname: String
    public var annotations: VMAnnotations
    /// By `VMAnnotations.seedData(from:)`.
    public var data: SeedData
    /// Nil: the seed says nothing of the network.
    public var network: AttachedNetwork?
    public var dns = SandboxSpec.DNS(servers: [], searches: [], options: [])
    /// "KEY=value" of the container: into /etc/cloud/environment.
    public var environment: [RawText] = []
    /// Directories of the node that the machine has by virtiofs.
    public var shares: [GuestShare] = []
    /// Disks other than the root and the seed.
    public var disks: [GuestDisk] = []
    /// Lines of shell that every boot runs last, as root, such as what starts an agent from a tools disk.
    public var bootCommands: [String] = []

    public init(pod: SandboxSpec.Metadata, hostname: String, annotations: VMAnnotations, data: SeedData, network: AttachedNetwork?) {
        self.pod = pod
        self.hostname = hostname
        self.annotations = annotations
        self.data = data
        self.network = network
    }
}

/// A mount that the guest makes of a virtiofs device, or of a part of one.
public struct GuestShare: Sendable, Equatable {
    /// The device's tag, at most 36 bytes.
    public var tag: String
    /// What of the device is mounted: relative to its root; empty: all.
    public var subPath: String
    /// Where in the guest: absolute.
    public var path: String
    public var isReadOnly: Bool
    /// A single file and no directory.
    public var isFile: Bool

    public init(tag: String, subPath: String = "", path: String, isReadOnly: Bool, isFile: Bool = false) {
        self.tag = tag
        self.subPath = subPath
        self.path = path
        self.isReadOnly = isReadOnly
        self.isFile = isFile
    }
}

/// A disk as the guest finds it.
public struct GuestDisk: Sendable, Equatable {
    public var serial: String
    public var bus: DiskBus
    /// A link to it: absolute; nil: none.
    public var devicePath: String?
    /// Nil: it is not mounted.
    public var mountPath: String?
    /// Made before it is mounted, when the disk is blank; nil: never.
    public var filesystem: String?

    public init(serial: String, bus: DiskBus, devicePath: String? = nil, mountPath: String? = nil, filesystem: String? = nil) {
        self.serial = serial
        self.bus = bus
        self.devicePath = devicePath
        self.mountPath = mountPath
        self.filesystem = filesystem
    }

    /// A data volume of the annotations.
    public init(_ volume: DataVolume, bus: DiskBus) {
        self.init(
            serial: bus.serial(of: volume.name), bus: bus, devicePath: volume.devicePath, mountPath: volume.mountPath,
            filesystem: volume.mountPath == nil ? nil : volume.filesystem)
    }

    /// udev's link to it, by what of the serial number the bus shows.
    public var deviceLink: String {
        let name =
            switch bus {
            case .scsi: "scsi-0QEMU_QEMU_HARDDISK_"
            case .virtio: "virtio-"
            case .sata: "ata-QEMU_HARDDISK_"
            }
        return "/dev/disk/by-id/" + name + serial.prefix(bus.longestSerial)
    }
}

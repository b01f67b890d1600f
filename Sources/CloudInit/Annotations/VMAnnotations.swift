import Errors
import GuestHardware
import YAML

/// What a pod's annotations ask of its virtual machine, checked: Virtlet's by the names and rules of its code, and Swiftlet's own, which begin
/// with `swiftlet/`. `docs/vm-pods.md` has the table.
public struct VMAnnotations: Sendable, Equatable {
    // MARK: Disks

    /// Bytes that the root disk is to have; nil: the image's own size, or what the pod's limits say.
    public var rootSize: UInt64?
    /// Whether the image is written over what a root disk on a volume holds.
    public var overwritesPersistentRoot = false
    /// The mount whose disk.img is the root disk; nil: the root disk is a block volume, or goes with the container.
    public var rootVolume: String?
    /// The mount that keeps the TPM's state and UEFI's variables; nil: the root volume, or they go with the container.
    public var stateVolume: String?
    /// Of the root disk, the data disks and volumes.
    public var diskBus = DiskBus.scsi
    /// Disks that are made with the container and go with it.
    public var dataVolumes: [DataVolume] = []
    /// Mounts whose files are written into the seed and from there into the guest once, for images without virtiofs.
    public var seedVolumes = SeedVolumes.none

    // MARK: Machine

    /// 1 to 255; nil: by the pod's CPU limit.
    public var vcpus: Int?
    /// Bytes; nil: by the pod's memory limit.
    public var memory: UInt64?
    /// What the machine can be given while it runs; nil: what it has from its start.
    public var mostVCPUs: Int?
    public var mostMemory: UInt64?
    /// Nil: the handler's default.
    public var cpu: CPUSetting?
    /// Lower-case, with dashes; nil: the pod's.
    public var systemUUID: String?
    public var firmware = Firmware.bios
    public var hasTPM = false
    /// Nil: no watchdog.
    public var watchdog: WatchdogAction?
    public var graphics = Graphics.vnc
    public var reboot = RebootPolicy.restart
    public var agent = AgentChoice.auto

    // MARK: Seed

    /// Nil: the machine gets no seed.
    public var seedFormat: SeedFormat? = .noCloud
    public var networkConfig = NetworkConfigMode.static
    /// Nil: the pod's uid.
    public var instanceID: String?

    /// Laid over the generated meta-data: a mapping.
    var metaData: YAMLValue?
    var userData = UserDataAnnotations()
    var sshKeys: [String] = []
    var sshKeySource: MountSource?
    var fileSource: MountSource?

    /// - Parameter container: of the container's own; they beat the pod's.
    /// - Throws: `.invalidArgument` with every annotation that is wrong in one message.
    public init(pod: [String: String], container: [String: String] = [:]) throws {
        var reader = AnnotationReader(pod.merging(container) { $1 })
        readDisks(&reader)
        readMachine(&reader)
        readSeed(&reader)
        try reader.finish()
    }
}

public enum Firmware: String, Sendable, CaseIterable {
    case bios
    case uefi
}

public enum Graphics: String, Sendable, CaseIterable {
    case none
    /// A framebuffer on a unix socket.
    case vnc
    /// VNC, and a virtio-gpu that renders on the node.
    case virgl
}

/// Who runs commands in the guest.
public enum AgentChoice: String, Sendable, CaseIterable {
    /// Swiftlet's agent, which the machine gets on a disk, where the guest starts it; else qemu-guest-agent.
    case auto
    /// The machine gets neither the disk nor the device by which Swiftlet's agent is reached.
    case none
}

public enum SeedFormat: String, Sendable, CaseIterable {
    case noCloud = "nocloud"
    case configDrive = "configdrive"
}

/// What the seed says of the guest's network.
public enum NetworkConfigMode: String, Sendable, CaseIterable {
    /// The addresses and routes that the plug-ins gave.
    case `static`
    /// DHCP on every interface.
    case dhcp
    /// Nothing: the image does what it does by itself.
    case none
}

public enum SeedVolumes: Sendable, Equatable {
    case none
    case all
    /// Mounts by their path in the container.
    case paths(Set<String>)
}

/// A disk that is made with the container: qcow2, empty.
public struct DataVolume: Sendable, Equatable {
    /// Its serial number in the guest: lower-case letters, digits and dashes, as long as its bus shows.
    public var name: String
    /// Bytes.
    public var size: UInt64
    /// Where the guest mounts it; nil: nowhere.
    public var mountPath: String?
    /// A link to it below /dev; nil: none.
    public var devicePath: String?
    /// "ext4", "xfs" or "btrfs": made when the disk is blank and has a mount path.
    public var filesystem: String
}

/// The CPU that the guest sees; names are libvirt's.
public struct CPUSetting: Sendable, Equatable {
    public enum Mode: String, Sendable, CaseIterable {
        case hostModel = "host-model"
        case hostPassthrough = "host-passthrough"
        case maximum
        case custom
    }

    public struct Feature: Sendable, Equatable {
        public enum Policy: String, Sendable, CaseIterable {
            case force
            case require
            case optional
            case disable
            case forbid
        }

        public var name: String
        public var policy: Policy

        public init(name: String, policy: Policy) {
            self.name = name
            self.policy = policy
        }
    }

    public enum Match: String, Sendable, CaseIterable {
        case minimum
        case exact
        case strict
    }

    public var mode: Mode
    /// Of mode `custom` alone: "Westmere".
    public var model: String?
    /// Whether another model may take the place of one that the node does not have.
    public var allowsFallback = true
    public var match: Match?
    public var features: [Feature] = []
    /// The CPU's own virtualisation (vmx or svm) is required: Virtlet's `VirtletCPUModel: host-model`.
    public var nestedVirtualization = false

    public init(mode: Mode, model: String? = nil) {
        self.mode = mode
        self.model = model
    }
}

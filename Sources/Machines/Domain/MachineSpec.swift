import FoundationEssentials
import GuestHardware

/// How guest instructions are executed.
public enum Accelerator: String, Sendable, Codable, CaseIterable {
    /// The host's hardware virtualisation.
    case kvm
    /// QEMU's emulator: works everywhere, several times slower.
    case tcg
}

/// Everything that makes one virtual machine. The domain's XML is a function of this value and of the node.
public struct MachineSpec: Sendable, Codable, Equatable {
    public var id: MachineID
    /// The domain's name in libvirt: 1 to 64 of `A-Z a-z 0-9 . _ -`, not beginning with a dot or a dash.
    public var name: String
    public var shape: MachineShape
    public var boot: MachineBoot
    /// Disks get their units in this order; other kinds do not depend on it.
    public var devices: [MachineDevice]
    /// Whom QEMU runs as; nil: whomever libvirt runs all others as.
    public var user: MachineUser?
    /// What a guest that reboots does to its machine.
    public var reboot: RebootPolicy
    /// What the guest's firmware says of the machine (SMBIOS).
    public var identity: SystemIdentity
    public var processor: ProcessorSpec

    public init(
        id: MachineID, name: String, shape: MachineShape, boot: MachineBoot, devices: [MachineDevice], user: MachineUser? = nil,
        reboot: RebootPolicy = .exit, identity: SystemIdentity = SystemIdentity(),
        processor: ProcessorSpec = ProcessorSpec()
    ) {
        self.id = id
        self.name = name
        self.shape = shape
        self.boot = boot
        self.devices = devices
        self.user = user
        self.reboot = reboot
        self.identity = identity
        self.processor = processor
    }
}

/// What the guest's firmware says of the machine: tables of types 1 and 11 of the SMBIOS specification.
public struct SystemIdentity: Sendable, Codable, Equatable {
    /// The system's UUID (in Linux /sys/class/dmi/id/product_uuid); nil: the machine's id. Two machines may have the same.
    public var uuid: UUID?
    /// 1 to 64 printable characters.
    public var serialNumber: String?
    /// OEM strings, such as systemd's credentials (`io.systemd.credential:NAME=VALUE`).
    public var strings: [String]

    public init(uuid: UUID? = nil, serialNumber: String? = nil, strings: [String] = []) {
        self.uuid = uuid
        self.serialNumber = serialNumber
        self.strings = strings
    }
}

/// How large a machine is, how large it may become, and how it is run.
public struct MachineShape: Sendable, Codable, Hashable {
    /// Bytes of guest memory; rounded up to whole MiB.
    public var memoryBytes: UInt64
    public var vcpus: Int
    /// What the machine may grow to while it runs; nil: it stays as it is. Its guest should then get
    /// `GuestKernelArguments.growing`.
    public var growth: MachineExtent?
    public var accelerator: Accelerator
    /// Whether the memory is of the node's reserved huge pages of 2 MiB; it is rounded up to whole ones.
    public var hugePages: Bool

    public init(memoryBytes: UInt64, vcpus: Int, growth: MachineExtent? = nil, accelerator: Accelerator, hugePages: Bool = false) {
        self.memoryBytes = memoryBytes
        self.vcpus = vcpus
        self.growth = growth
        self.accelerator = accelerator
        self.hugePages = hugePages
    }
}

/// How large a machine is.
public struct MachineExtent: Sendable, Codable, Hashable {
    public var memoryBytes: UInt64
    public var vcpus: Int

    public init(memoryBytes: UInt64, vcpus: Int) {
        self.memoryBytes = memoryBytes
        self.vcpus = vcpus
    }
}

/// What a machine runs first.
public enum MachineBoot: Sendable, Codable, Equatable {
    /// A kernel and its initramfs go into memory; no firmware looks for a disk. The arguments are joined by spaces; see
    /// `GuestKernelArguments.standard`.
    case kernel(path: String, initramfs: String, arguments: [String])
    /// The BIOS starts the boot loader of the first device in the boot order, or of the first disk where none has a position in it.
    case disk
    /// UEFI starts the boot loader of the first device in that order that has one. `code` is shared by machines, `variables` is this machine's own
    /// file, writable by QEMU's user.
    case firmware(code: String, variables: String)
}

extension MachineSpec {
    public var disks: [DiskSpec] { devices.compactMap { if case .disk(let disk) = $0 { disk } else { nil } } }
    public var interfaces: [InterfaceSpec] { devices.compactMap { if case .interface(let interface) = $0 { interface } else { nil } } }
    public var filesystems: [FilesystemSpec] {
        devices.compactMap { if case .filesystem(let filesystem) = $0 { filesystem } else { nil } }
    }
    public var channels: [ChannelSpec] { devices.compactMap { if case .channel(let channel) = $0 { channel } else { nil } } }
    public var vsock: VsockDeviceSpec? { devices.lazy.compactMap { if case .vsock(let vsock) = $0 { vsock } else { nil } }.first }
    public var console: ConsoleSpec? { devices.lazy.compactMap { if case .console(let console) = $0 { console } else { nil } }.first }
    var hasRandomSource: Bool { devices.contains(.random) }
    var hasPanicDevice: Bool { devices.contains(.panic) }
    public var tpm: TPMSpec? { devices.lazy.compactMap { if case .tpm(let tpm) = $0 { tpm } else { nil } }.first }
    public var display: DisplaySpec? { devices.lazy.compactMap { if case .display(let display) = $0 { display } else { nil } }.first }
    public var watchdog: WatchdogAction? { devices.lazy.compactMap { if case .watchdog(let action) = $0 { action } else { nil } }.first }
    var hasBalloon: Bool { devices.contains(.balloon) }
}

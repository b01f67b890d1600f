import Errors
import FoundationEssentials

/// How guest instructions are executed.
public enum Accelerator: String, Sendable, Codable, CaseIterable {
    /// The host's hardware virtualisation.
    case kvm
    /// QEMU's emulator: works everywhere, several times slower.
    case tcg
}

/// Everything that makes one virtual machine. The domain's XML is a function of this value and of the node.
public struct VMSpec: Sendable, Codable, Equatable {
    public var uuid: UUID
    /// The domain's name in libvirt: 1 to 64 of `A-Z a-z 0-9 . _ -`, not beginning with a dot or a dash.
    public var name: String
    /// Bytes of guest memory; rounded up to whole MiB.
    public var memoryBytes: UInt64
    public var vcpus: Int
    /// What the machine may grow to while it runs; nil: it stays as it is. Its guest should then get
    /// `GuestKernelArguments.growing`.
    public var growth: MachineExtent?
    public var kernel: String
    public var initramfs: String
    /// Joined by spaces. See `GuestKernelArguments.standard`.
    public var kernelArguments: [String]
    /// The file that gets what the guest writes to its first serial port.
    public var consoleLog: String
    public var vsock: VsockDeviceSpec
    public var interface: InterfaceSpec?
    public var disks: [DiskSpec]
    public var accelerator: Accelerator

    public init(
        uuid: UUID, name: String, memoryBytes: UInt64, vcpus: Int, kernel: String, initramfs: String, kernelArguments: [String],
        consoleLog: String, vsock: VsockDeviceSpec, interface: InterfaceSpec? = nil, disks: [DiskSpec] = [], accelerator: Accelerator
    ) {
        self.uuid = uuid
        self.name = name
        self.memoryBytes = memoryBytes
        self.vcpus = vcpus
        self.kernel = kernel
        self.initramfs = initramfs
        self.kernelArguments = kernelArguments
        self.consoleLog = consoleLog
        self.vsock = vsock
        self.interface = interface
        self.disks = disks
        self.accelerator = accelerator
    }
}

/// The guest's vsock device, for host and guest to talk without a network.
public enum VsockDeviceSpec: Sendable, Codable, Equatable {
    /// A vhost-user backend listens on `socket` before the machine starts. `cid` is what the backend tells the guest.
    case vhostUser(socket: String, cid: UInt32)
    /// The host kernel's vhost-vsock.
    case kernel(cid: UInt32)
}

/// A network device on a tap that exists already, in libvirt's network namespace at the time of the start.
public struct InterfaceSpec: Sendable, Codable, Equatable {
    public var tap: String
    /// Six hexadecimal octets with colons, unicast.
    public var mac: String
    /// Bytes; nil leaves the guest's device at 1500.
    public var mtu: Int?

    public init(tap: String, mac: String, mtu: Int? = nil) {
        self.tap = tap
        self.mac = mac
        self.mtu = mtu
    }
}

/// A disk the guest sees as a SCSI unit and finds by its serial.
public struct DiskSpec: Sendable, Codable, Equatable {
    public enum Format: String, Sendable, Codable {
        case raw
        case qcow2
    }

    /// Readable (and writable, unless `readOnly`) by QEMU's user: nobody changes its owner.
    public var path: String
    /// 1 to 36 of `A-Z a-z 0-9 . _ -`: what QEMU's SCSI disks take. Unique within the machine.
    public var serial: String
    /// Several machines may use one read-only file at once.
    public var readOnly: Bool
    public var format: Format
    /// The content need not outlive the machine: the guest's flushes cost nothing.
    public var ephemeral: Bool

    public init(path: String, serial: String, readOnly: Bool, format: Format = .raw, ephemeral: Bool = false) {
        self.path = path
        self.serial = serial
        self.readOnly = readOnly
        self.format = format
        self.ephemeral = ephemeral
    }
}

extension VMSpec {
    /// Most SCSI units a machine can have. Bounds what one pod can make libvirt and QEMU hold.
    public static let mostDisks = 256
    /// The x86 kernel's COMMAND_LINE_SIZE is 2048 with the final NUL.
    static let longestCommandLine = 2047

    /// Checks every value that reaches libvirt, QEMU or the guest's command line.
    ///
    /// - Throws: `invalidArgument` naming the machine and the value.
    public func validate() throws {
        try require(Self.isName(name, longest: 64), "domain name \(name.debugDescription) is not valid")
        try require(memoryBytes >= 32 << 20, "memory of \(memoryBytes) bytes is less than 32 MiB")
        try require(memoryBytes <= 16 << 40, "memory of \(memoryBytes) bytes is more than 16 TiB")
        try require((1...255).contains(vcpus), "\(vcpus) vCPUs are outside of 1 to 255")
        for path in [kernel, initramfs, consoleLog] { try Self.checkPath(path) }
        let commandLine = kernelArguments.joined(separator: " ")
        try require(Self.isPrintable(commandLine), "the kernel arguments hold a control character")
        try require(commandLine.utf8.count <= Self.longestCommandLine, "the kernel arguments are longer than 2047 bytes")
        if let growth {
            try require(growth.memoryBytes <= 16 << 40, "growth to \(growth.memoryBytes) bytes is more than 16 TiB")
            try require((1...255).contains(growth.vcpus), "growth to \(growth.vcpus) vCPUs is outside of 1 to 255")
        }
        try vsock.validate()
        try interface?.validate()
        try require(disks.count <= Self.mostDisks, "\(disks.count) disks are more than \(Self.mostDisks)")
        for disk in disks { try disk.validate() }
        try require(Set(disks.map(\.serial)).count == disks.count, "two disks have the same serial")
    }

    private func require(_ holds: Bool, _ problem: @autoclosure () -> String) throws {
        guard holds else { throw SwiftletError(.invalidArgument, "machine \(name.debugDescription): \(problem())") }
    }

    static func checkPath(_ path: String) throws {
        guard path.hasPrefix("/"), isPrintable(path), path.utf8.count < 4096 else {
            throw SwiftletError(.invalidArgument, "\(path.prefix(256).debugDescription) is not an absolute path of printable characters")
        }
    }

    static func isPrintable(_ text: String) -> Bool {
        text.unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7F...0x9F).contains($0.value) }
    }

    static func isName(_ text: String, longest: Int) -> Bool {
        guard (1...longest).contains(text.utf8.count), text.first != ".", text.first != "-" else { return false }
        return text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                true
            default: false
            }
        }
    }
}

extension VsockDeviceSpec {
    var cid: UInt32 {
        switch self {
        case .vhostUser(_, let cid), .kernel(let cid): cid
        }
    }

    /// Context ids 0 to 2 and 2^32 - 1 have meanings of their own (vsock(7)).
    func validate() throws {
        guard cid > 2, cid != .max else { throw SwiftletError(.invalidArgument, "vsock context id \(cid) is reserved") }
        guard case .vhostUser(let socket, _) = self else { return }
        try VMSpec.checkPath(socket)
        guard socket.utf8.count < 108 else {
            throw SwiftletError(.invalidArgument, "socket path \(socket) is longer than 107 bytes; choose a shorter run directory")
        }
    }
}

extension InterfaceSpec {
    func validate() throws {
        // IFNAMSIZ is 16 with the final NUL.
        guard VMSpec.isName(tap, longest: 15) else {
            throw SwiftletError(.invalidArgument, "tap name \(tap.debugDescription) is not valid")
        }
        let octets = mac.split(separator: ":", omittingEmptySubsequences: false)
        let values = octets.compactMap { $0.utf8.count == 2 ? UInt8($0, radix: 16) : nil }
        guard octets.count == 6, values.count == 6, values[0] & 1 == 0 else {
            throw SwiftletError(.invalidArgument, "\(mac.debugDescription) is not a unicast MAC address")
        }
        if let mtu, !(68...65_535).contains(mtu) {
            throw SwiftletError(.invalidArgument, "MTU \(mtu) of \(tap) is outside of 68 to 65535")
        }
    }
}

extension DiskSpec {
    func validate() throws {
        try VMSpec.checkPath(path)
        guard VMSpec.isName(serial, longest: 36) else {
            throw SwiftletError(
                .invalidArgument, "disk \(path): serial \(serial.prefix(64).debugDescription) is not 1 to 36 letters, digits, '.', '_', '-'"
            )
        }
    }
}

import Errors

extension MachineSpec {
    /// Most SCSI units a machine can have. Bounds what one pod can make libvirt and QEMU hold.
    public static let mostDisks = 256
    /// Most disks on the bus that a machine can have. A virtio disk takes a PCI root port; the machine's AHCI controller has six.
    static func mostDisks(on bus: DiskSpec.Bus) -> Int {
        switch bus {
        case .scsi: mostDisks
        case .virtio: 20
        case .sata: 6
        }
    }
    /// Most interfaces, filesystems and virtio disks: each takes a PCI root port.
    static let mostPorts = 32
    /// Most ports of virtio-serial: QEMU's device has 31, and the first is the console's.
    static let mostChannels = 30
    /// The kernel takes single arguments of 128 KiB (MAX_ARG_STRLEN); SMBIOS has no bound of its own worth naming.
    private static let longestString = 32 << 10
    private static let mostStrings = 32
    /// The x86 kernel's COMMAND_LINE_SIZE is 2048 with the final NUL.
    static let longestCommandLine = 2047

    /// Checks every value that reaches libvirt, QEMU or the guest's command line.
    ///
    /// - Throws: `invalidArgument` naming the machine and the value.
    public func validate() throws {
        try require(Self.isName(name, longest: 64), "domain name \(name.debugDescription) is not valid")
        try require(shape.memoryBytes >= 32 << 20, "memory of \(shape.memoryBytes) bytes is less than 32 MiB")
        try require(shape.memoryBytes <= 16 << 40, "memory of \(shape.memoryBytes) bytes is more than 16 TiB")
        try require((1...255).contains(shape.vcpus), "\(shape.vcpus) vCPUs are outside of 1 to 255")
        if let growth = shape.growth {
            try require(growth.memoryBytes <= 16 << 40, "growth to \(growth.memoryBytes) bytes is more than 16 TiB")
            try require((1...255).contains(growth.vcpus), "growth to \(growth.vcpus) vCPUs is outside of 1 to 255")
        }
        try validateBoot()
        for device in devices { try device.validate() }
        for bus in DiskSpec.Bus.allCases {
            let (count, most) = (disks.lazy.filter { $0.bus == bus }.count, Self.mostDisks(on: bus))
            try require(count <= most, "\(count) \(bus) disks are more than \(most)")
        }
        try require(
            devicesWithPorts <= Self.mostPorts,
            "\(devicesWithPorts) interfaces, filesystems and virtio disks are more than \(Self.mostPorts)")
        try require(channels.count <= Self.mostChannels, "\(channels.count) channels are more than \(Self.mostChannels)")
        try require(
            Set(devices.map(\.id)).count == devices.count, "two devices have the same serial, address, name or tag, or are of a single kind"
        )
        let positions = bootPositions
        try require(Set(positions).count == positions.count, "two devices have the same position in the boot order")
        try validateIdentity()
        do { try processor.validate(for: shape) } catch { throw SwiftletError.wrap(error, "machine \(name.debugDescription)") }
    }

    /// Interfaces, filesystems and virtio disks.
    var devicesWithPorts: Int { interfaces.count + filesystems.count + disks.lazy.filter { $0.bus == .virtio }.count }

    /// Positions in the firmware's boot order.
    var bootPositions: [Int] { disks.compactMap(\.bootOrder) + interfaces.compactMap(\.bootOrder) }

    private func validateIdentity() throws {
        if let serial = identity.serialNumber {
            try require(
                Self.isPrintable(serial) && (1...64).contains(serial.utf8.count), "the serial number is not 1 to 64 printable bytes")
        }
        try require(identity.strings.count <= Self.mostStrings, "\(identity.strings.count) OEM strings are more than \(Self.mostStrings)")
        for string in identity.strings {
            try require(
                Self.isPrintable(string) && (1...Self.longestString).contains(string.utf8.count),
                "an OEM string is not 1 to \(Self.longestString) printable bytes")
        }
    }

    private func validateBoot() throws {
        switch boot {
        case .kernel(let kernel, let initramfs, let arguments):
            for path in [kernel, initramfs] { try Self.checkPath(path) }
            let commandLine = arguments.joined(separator: " ")
            try require(Self.isPrintable(commandLine), "the kernel arguments hold a control character")
            try require(commandLine.utf8.count <= Self.longestCommandLine, "the kernel arguments are longer than 2047 bytes")
            try require(bootPositions.isEmpty, "a kernel that is given leaves no boot order")
        case .disk:
            try require(!disks.isEmpty || !bootPositions.isEmpty, "there is no disk to boot from")
        case .firmware(let code, let variables):
            for path in [code, variables] { try Self.checkPath(path) }
        }
    }

    private func require(_ holds: Bool, _ problem: @autoclosure () -> String) throws {
        guard holds else { throw SwiftletError(.invalidArgument, "machine \(name.debugDescription): \(problem())") }
    }

    static func checkPath(_ path: String) throws {
        guard path.hasPrefix("/"), isPrintable(path), path.utf8.count < 4096 else {
            throw SwiftletError(.invalidArgument, "\(path.prefix(256).debugDescription) is not an absolute path of printable characters")
        }
    }

    /// sun_path holds 108 bytes with the final NUL (unix(7)).
    static func checkSocket(_ socket: String) throws {
        try checkPath(socket)
        guard socket.utf8.count < 108 else {
            throw SwiftletError(.invalidArgument, "socket path \(socket) is longer than 107 bytes; choose a shorter run directory")
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

extension MachineDevice {
    /// - Throws: `invalidArgument` for what must not reach libvirt's XML or QEMU's command line.
    public func validate() throws {
        switch self {
        case .disk(let disk): try disk.validate()
        case .interface(let interface): try interface.validate()
        case .vsock(let vsock): try vsock.validate()
        case .filesystem(let filesystem): try filesystem.validate()
        case .console(let console): try console.validate()
        case .channel(let channel): try channel.validate()
        case .display(let display): try display.validate()
        case .tpm(let tpm): try MachineSpec.checkSocket(tpm.socket)
        case .random, .panic, .watchdog, .balloon: break
        }
    }
}

extension DeviceID {
    /// Checks what reaches libvirt's XML.
    func validate() throws {
        switch self {
        case .disk(let serial):
            guard MachineSpec.isName(serial, longest: 36) else {
                throw SwiftletError(.invalidArgument, "\(serial.prefix(64).debugDescription) is not a disk's serial")
            }
        case .filesystem(let tag):
            guard MachineSpec.isName(tag, longest: 36) else {
                throw SwiftletError(.invalidArgument, "\(tag.prefix(64).debugDescription) is not a filesystem's tag")
            }
        case .interface(let mac): try InterfaceSpec.validate(mac: mac)
        case .vsock, .console, .channel, .random, .panic, .watchdog, .display, .tpm, .balloon: break
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
        if case .vhostUser(let socket, _) = self { try MachineSpec.checkSocket(socket) }
    }
}

extension InterfaceSpec {
    func validate() throws {
        // IFNAMSIZ is 16 with the final NUL.
        guard MachineSpec.isName(tap, longest: 15) else {
            throw SwiftletError(.invalidArgument, "tap name \(tap.debugDescription) is not valid")
        }
        try Self.validate(mac: mac)
        if let mtu, !(68...65_535).contains(mtu) {
            throw SwiftletError(.invalidArgument, "MTU \(mtu) of \(tap) is outside of 68 to 65535")
        }
        if let bootOrder, !bootROM || !(1...32).contains(bootOrder) {
            throw SwiftletError(.invalidArgument, "boot position \(bootOrder) of \(tap) needs a boot ROM and is 1 to 32")
        }
    }

    static func validate(mac: String) throws {
        let octets = mac.split(separator: ":", omittingEmptySubsequences: false)
        let values = octets.compactMap { $0.utf8.count == 2 ? UInt8($0, radix: 16) : nil }
        guard octets.count == 6, values.count == 6, values[0] & 1 == 0 else {
            throw SwiftletError(.invalidArgument, "\(mac.prefix(64).debugDescription) is not a unicast MAC address")
        }
    }
}

extension ConsoleSpec {
    func validate() throws {
        try MachineSpec.checkPath(log)
        if let socket { try MachineSpec.checkSocket(socket) }
    }
}

extension ChannelSpec {
    func validate() throws {
        guard MachineSpec.isName(name, longest: 36) else {
            throw SwiftletError(
                .invalidArgument, "channel name \(name.prefix(64).debugDescription) is not 1 to 36 letters, digits, '.', '_', '-'")
        }
        try MachineSpec.checkSocket(socket)
    }
}

extension FilesystemSpec {
    func validate() throws {
        guard MachineSpec.isName(tag, longest: 36) else {
            throw SwiftletError(
                .invalidArgument, "filesystem tag \(tag.prefix(64).debugDescription) is not 1 to 36 letters, digits, '.', '_', '-'")
        }
        try MachineSpec.checkSocket(socket)
    }
}

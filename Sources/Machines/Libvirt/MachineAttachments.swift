import Errors

/// The devices of a running machine that may come and go.
struct MachineAttachments: Sendable, Equatable {
    struct Disk: Sendable, Equatable {
        /// Nil for one on a bus of another kind than this project's.
        var bus: DiskSpec.Bus?
        /// The unit on the bus; nil for a disk that libvirt describes without one.
        var unit: Int?
        /// The `<disk>` element, which unplugging takes back.
        var tag: XMLTag
    }

    private(set) var disks: [String: Disk] = [:]
    /// Filesystems, interfaces and kernel vsock devices.
    private(set) var others: [DeviceID: XMLTag] = [:]
    /// Where the search for a free SCSI unit begins. A unit that has just become free is not the next to be taken: a guest that has
    /// missed the event of a disk unplugged would see the next one as the last.
    private var nextUnit = 0

    /// What a machine has right after its start.
    init(_ spec: MachineSpec) {
        for (disk, unit) in Disks.units(spec.disks) { add(disk, unit: unit) }
        for device in spec.devices { others[device.id] = device.tag }
    }

    /// What libvirt says of a running machine.
    init(liveDomain: XMLTag) {
        let devices = liveDomain["devices"]
        for tag in devices?.all("disk") ?? [] {
            guard let serial = tag["serial"]?.text else { continue }
            let bus = tag["target"]?.attribute("bus").flatMap { DiskSpec.Bus(rawValue: $0) }
            let unit =
                switch bus {
                case .scsi, .sata: tag["address"]?.attribute("unit").flatMap { Int($0) }
                case .virtio: tag["target"]?.attribute("dev").flatMap { Disks.virtioUnit($0) }
                case nil: Int?.none
                }
            disks[serial] = Disk(bus: bus, unit: unit, tag: tag)
            if bus == .scsi, let unit { nextUnit = max(nextUnit, unit + 1) }
        }
        for tag in devices?.all("filesystem") ?? [] {
            if let name = tag["target"]?.attribute("dir") { others[.filesystem(tag: name)] = tag }
        }
        for tag in devices?.all("interface") ?? [] {
            if let mac = tag["mac"]?.attribute("address") { others[.interface(mac: mac)] = tag }
        }
        if let tag = devices?["vsock"] { others[.vsock] = tag }
    }

    func contains(_ id: DeviceID) -> Bool { self[id] != nil }

    func isSCSIDisk(_ id: DeviceID) -> Bool {
        if case .disk(let serial) = id { disks[serial]?.bus == .scsi } else { false }
    }

    /// Disks' serials by libvirt's names.
    var serials: [String: String] {
        var serials: [String: String] = [:]
        for (serial, disk) in disks { serials[disk.tag["target"]?.attribute("dev") ?? ""] = serial }
        return serials
    }

    var filesystems: [DeviceID] { others.keys.filter { if case .filesystem = $0 { true } else { false } } }

    /// The element of a device that is there.
    subscript(id: DeviceID) -> XMLTag? {
        if case .disk(let serial) = id { disks[serial]?.tag } else { others[id] }
    }

    /// A free unit of the bus; nil when all are taken.
    func freeUnit(on bus: DiskSpec.Bus) -> Int? {
        let (most, first) = (MachineSpec.mostDisks(on: bus), bus == .scsi ? nextUnit : 0)
        let used = Set(disks.values.lazy.filter { $0.bus == bus }.compactMap(\.unit))
        return (0..<most).lazy.map { ($0 + first) % most }.first { !used.contains($0) }
    }

    mutating func add(_ disk: DiskSpec, unit: Int) {
        disks[disk.serial] = Disk(bus: disk.bus, unit: unit, tag: Disks.tag(disk, unit: unit))
        if disk.bus == .scsi { nextUnit = unit + 1 }
    }

    mutating func add(_ id: DeviceID, _ tag: XMLTag) { others[id] = tag }

    mutating func remove(_ id: DeviceID) {
        if case .disk(let serial) = id { disks[serial] = nil } else { others[id] = nil }
    }
}

extension MachineDevice {
    /// libvirt's element of a device that can be plugged in at any time and has no unit to choose; nil for others.
    var tag: XMLTag? {
        switch self {
        case .interface(let interface): Interfaces.tag(interface)
        case .filesystem(let filesystem): SharedFilesystems.tag(filesystem)
        case .vsock(.kernel(let cid)): Vsock.tag(cid: cid)
        case .disk, .vsock(.vhostUser), .console, .channel, .random, .panic, .watchdog, .display, .tpm, .balloon: nil
        }
    }
}

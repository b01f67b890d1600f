/// What a machine has used since its start, as libvirt and QEMU count it.
public struct MachineStatistics: Sendable, Equatable {
    /// What went through one disk.
    public struct Disk: Sendable, Equatable {
        public var readBytes: UInt64 = 0
        public var readRequests: UInt64 = 0
        public var writtenBytes: UInt64 = 0
        public var writeRequests: UInt64 = 0
        /// Bytes that the guest sees.
        public var capacity: UInt64 = 0
        /// Bytes that the disk's own file takes on the node, up to its highest; 0 where QEMU does not tell.
        public var allocated: UInt64 = 0

        public init() {}
    }

    /// The guest's own view of its memory, in bytes, by its balloon driver: renewed every 10 seconds, nil without a driver that tells.
    public struct GuestMemory: Sendable, Equatable {
        public var total: UInt64
        public var unused: UInt64
        /// What could be had without swapping; nil from old drivers.
        public var available: UInt64?

        public init(total: UInt64, unused: UInt64, available: UInt64?) {
            self.total = total
            self.unused = unused
            self.available = available
        }
    }

    /// QEMU's processor time: guest and devices.
    public var cpuNanoseconds: UInt64
    /// QEMU's resident memory.
    public var residentBytes: UInt64
    public var guestMemory: GuestMemory?
    /// By serial.
    public var disks: [String: Disk]

    public init(cpuNanoseconds: UInt64 = 0, residentBytes: UInt64 = 0, guestMemory: GuestMemory? = nil, disks: [String: Disk] = [:]) {
        self.cpuNanoseconds = cpuNanoseconds
        self.residentBytes = residentBytes
        self.guestMemory = guestMemory
        self.disks = disks
    }
}

import Linux

/// What makes, changes and ends virtual machines. Calls may overlap; each ends by a deadline of its own.
public protocol Hypervisor: Sendable {
    /// Starts a machine. One with this id that runs already is returned as it is.
    ///
    /// - Throws: `invalidArgument` for a spec that cannot be, `alreadyExists` when another machine has its vsock context id,
    ///   `deadlineExceeded`, `unavailable` without a connection. A start that comes through after its deadline is undone.
    func start(_ spec: MachineSpec) async throws -> Machine

    /// The machine with this id; nil when none runs.
    ///
    /// - Throws: `unavailable`, `deadlineExceeded` when the hypervisor cannot say.
    func machine(_ id: MachineID) async throws -> Machine?

    /// Every running machine that libvirt knows, others' too.
    func machines() async throws -> [Machine]

    /// Ends a machine without asking the guest, and succeeds when there is none.
    ///
    /// - Parameters:
    ///   - process: QEMU, as `start` returned it: the way out when libvirt does not answer.
    ///   - atOnce: QEMU has nothing to write back to its disks, as it may have when it is asked to end.
    /// - Throws: `unavailable` or `deadlineExceeded` when it may still run.
    func destroy(_ id: MachineID, process: ProcessIdentity?, atOnce: Bool) async throws

    /// Plugs devices into a running machine, all in one call. A device whose id is there already counts as plugged. The
    /// backends of filesystems and vsock devices listen already.
    ///
    /// - Returns: what was not there before.
    /// - Throws: `notFound` without the machine, `resourceExhausted` past the most disks of a bus, `invalidArgument` for a kind
    ///   that is there from the start only. Devices before the one that failed stay plugged.
    @discardableResult
    func attach(_ devices: [MachineDevice], to id: MachineID) async throws -> [DeviceID]

    /// Unplugs devices, all in one call; one that is not there counts as unplugged. SCSI disks need no help of the guest, other
    /// devices do.
    ///
    /// - Throws: `notFound` without the machine, `deadlineExceeded` when the guest does not let go of a device.
    func detach(_ devices: [DeviceID], from id: MachineID) async throws

    /// Gives a running machine more memory and vCPUs; never less. The guest has taken the memory when this returns. An emulated
    /// machine keeps the vCPUs that it was started with.
    ///
    /// - Returns: what the machine has then.
    /// - Throws: `notFound` without the machine, `resourceExhausted` past what it was started to grow to, `deadlineExceeded`
    ///   when the guest does not take the memory.
    func grow(_ id: MachineID, to extent: MachineExtent) async throws -> MachineExtent

    /// Takes memory from the guest by its balloon, or gives it back: all but `bytes` of what the machine was started with. The guest has let
    /// go of it when this returns; it may take it back when it would run out of memory otherwise.
    ///
    /// - Throws: `notFound` without the machine, `deadlineExceeded` when the guest does not let go of it: it keeps all then.
    func balloon(_ id: MachineID, to bytes: UInt64) async throws

    /// Stops the machine's vCPUs. Idempotent; its clock stands still meanwhile.
    ///
    /// - Throws: `notFound` without the machine.
    func pause(_ id: MachineID) async throws

    /// Lets a machine go on that was paused, or that its full disk has stopped; what the guest was writing then is written again.
    /// Idempotent.
    ///
    /// - Throws: `notFound` without the machine.
    func resume(_ id: MachineID) async throws

    /// Presses the power button (ACPI), and does not wait for the guest: `events` reports the end. Never asks a guest agent, which may
    /// be there without an answer.
    ///
    /// - Throws: `notFound` without the machine.
    func shutdown(_ id: MachineID) async throws

    /// Resets the machine as its reset button would: the guest boots again, whatever the machine's policy for its own reboots.
    ///
    /// - Throws: `notFound` without the machine.
    func reset(_ id: MachineID) async throws

    /// Presses the power button, and boots the guest again when it has shut itself down; does not wait for that. A machine whose policy
    /// is to end with a reboot ends. Never asks a guest agent.
    ///
    /// - Throws: `notFound` without the machine.
    func reboot(_ id: MachineID) async throws

    /// Gives the disk of a running machine more bytes, which the guest sees at once; never fewer. For a block device that has grown: its
    /// new size.
    ///
    /// - Parameter bytes: rounded up to whole sectors.
    /// - Throws: `notFound` without the machine or the disk, `invalidArgument` with both sizes for one below the disk's,
    ///   `failedPrecondition` for a read-only disk.
    func resizeDisk(_ serial: String, of id: MachineID, to bytes: UInt64) async throws

    /// What the machine's screen shows, as PNG.
    ///
    /// - Throws: `notFound` without the machine, `failedPrecondition` without a screen.
    func screenshot(_ id: MachineID) async throws -> [UInt8]

    /// libvirt's XML of the machine as it runs. Holds no secrets.
    ///
    /// - Throws: `notFound` without the machine.
    func domainXML(_ id: MachineID) async throws -> String

    /// What a running machine has used.
    ///
    /// - Throws: `notFound` without the machine.
    func statistics(_ id: MachineID) async throws -> MachineStatistics

    /// How the last machine of this name ended, from libvirt's log: for an end that nobody saw. Nil while it runs, and when nothing is
    /// known. The log does not tell a guest's reset from its power-off.
    func lastEnd(ofMachineNamed name: String) async -> MachineEnd?

    /// Forgets what libvirt's log says of the machines of this name, which have ended. What cannot be removed stays.
    func removeLog(ofMachineNamed name: String) async

    /// Writes a machine's memory and devices to a file and ends it. Its disks stay as they are: they belong to what was saved.
    ///
    /// - Parameter path: is replaced; QEMU's user need not be able to write there.
    /// - Throws: `failedPrecondition` while it has a device that cannot be saved, which is to be detached first: filesystems and a
    ///   vhost-user vsock device; `notFound` without the machine. It runs on then.
    func save(_ id: MachineID, to path: String) async throws -> SavedMachine

    /// Starts a saved machine again, under its id, running, without the devices that were detached for it. The file stays.
    ///
    /// - Throws: `alreadyExists` when it runs already; `notFound` without the file.
    func restore(_ saved: SavedMachine) async throws -> Machine

    /// What happens from now on, to every machine. Each call gives an independent stream; it ends with `close`.
    func events() -> AsyncStream<MachineEvent>

    /// Lets go of the machines, which run on.
    func close() async
}

/// A machine as libvirt sees it.
public struct Machine: Sendable, Equatable {
    public enum State: String, Sendable {
        case running
        case paused
        /// Stopped in the middle of a write, because the file of one of its disks could not grow; it goes on with `resume`.
        case diskFull
        case stopping
        case crashed
        case other
    }

    public var id: MachineID
    public var name: String
    public var state: State
    /// QEMU; nil under a hypervisor that has no process per machine.
    public var process: ProcessIdentity?

    public init(id: MachineID, name: String, state: State, process: ProcessIdentity?) {
        self.id = id
        self.name = name
        self.state = state
        self.process = process
    }
}

/// A machine in a file.
public struct SavedMachine: Sendable, Codable, Equatable {
    public var id: MachineID
    public var name: String
    /// Memory and devices, in libvirt's format.
    public var path: String

    public init(id: MachineID, name: String, path: String) {
        self.id = id
        self.name = name
        self.path = path
    }
}

/// Something that happened to a machine, or to the connection that reports it.
public enum MachineEvent: Sendable, Equatable {
    /// The machine has ended; may be reported twice. A panic is reported while QEMU is still being ended.
    case stopped(MachineID, MachineEnd)
    /// The guest has reset its machine, which boots again. One reboot may be reported twice.
    case rebooted(MachineID)
    /// Somebody, or the machine's watchdog, has stopped the vCPUs or let them go on: look the machine up.
    case pauseChanged(MachineID)
    /// The file of a disk cannot grow: the machine is stopped, or will be in a moment. May be reported many times.
    case diskFull(MachineID, path: String)
    /// Until `reconnected` nothing is reported.
    case connectionLost
    /// Events in the gap are lost: look the machines up.
    case reconnected
}

extension Hypervisor {
    /// Ends a machine whose disks may be kept.
    public func destroy(_ id: MachineID, process: ProcessIdentity?) async throws {
        try await destroy(id, process: process, atOnce: false)
    }
}

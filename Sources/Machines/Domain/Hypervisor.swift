import FoundationEssentials
import Linux

/// What makes, changes and ends virtual machines. Calls may overlap; each ends by a deadline of its own.
public protocol Hypervisor: Sendable {
    /// Starts a machine and returns its QEMU process. A machine with this UUID that runs already is returned as it is.
    ///
    /// - Throws: `invalidArgument` for a spec that cannot be, `deadlineExceeded`, `unavailable` without a connection. A
    ///   start that comes through after its deadline is undone.
    func start(_ spec: VMSpec) async throws -> ProcessIdentity

    /// Ends a machine without asking the guest, and succeeds when there is none.
    ///
    /// - Parameter process: QEMU, as `start` returned it: the way out when libvirt does not answer.
    /// - Throws: `unavailable` or `deadlineExceeded` when it may still run.
    func destroy(uuid: UUID, process: ProcessIdentity?) async throws

    /// Plugs a disk into a running machine. One with this serial that is there already counts as plugged.
    ///
    /// - Throws: `notFound` without the machine, `resourceExhausted` past `VMSpec.mostDisks`.
    func attachDisk(_ disk: DiskSpec, to uuid: UUID) async throws

    /// Unplugs the disk with this serial, and succeeds when there is none.
    ///
    /// - Throws: `notFound` without the machine.
    func detachDisk(serial: String, from uuid: UUID) async throws

    /// Plugs a shared filesystem into a running machine; its backend listens already. One with this tag that is there already
    /// counts as plugged.
    ///
    /// - Throws: `notFound` without the machine.
    func attachFilesystem(_ filesystem: FilesystemSpec, to uuid: UUID) async throws

    /// Gives a running machine more memory and vCPUs; never less. The guest has taken the memory when this returns. An emulated
    /// machine keeps the vCPUs that it was started with.
    ///
    /// - Returns: what the machine has then.
    /// - Throws: `notFound` without the machine, `resourceExhausted` past what it was started to grow to, `deadlineExceeded`
    ///   when the guest does not take the memory.
    func grow(_ uuid: UUID, to extent: MachineExtent) async throws -> MachineExtent

    /// Every running machine that libvirt knows, others' too.
    func domains() async throws -> [DomainSummary]

    /// What happens from now on, to every machine. Each call gives an independent stream; it ends with `close`.
    func events() -> AsyncStream<DomainEvent>

    /// Lets go of the machines, which run on.
    func close() async
}

/// How large a machine is.
public struct MachineExtent: Sendable, Codable, Equatable {
    public var memoryBytes: UInt64
    public var vcpus: Int

    public init(memoryBytes: UInt64, vcpus: Int) {
        self.memoryBytes = memoryBytes
        self.vcpus = vcpus
    }
}

/// A machine as libvirt sees it.
public struct DomainSummary: Sendable, Equatable {
    public enum State: String, Sendable {
        case running
        case paused
        case stopping
        case crashed
        case other
    }

    public var uuid: UUID
    public var name: String
    public var state: State
    /// QEMU; nil under a hypervisor that has no process per machine.
    public var process: ProcessIdentity?

    public init(uuid: UUID, name: String, state: State, process: ProcessIdentity?) {
        self.uuid = uuid
        self.name = name
        self.state = state
        self.process = process
    }
}

/// Something that happened to a machine, or to the connection that tells of it.
public enum DomainEvent: Sendable, Equatable {
    /// The machine has ended; may be told twice. The reason is for people.
    case stopped(UUID, reason: String)
    /// The guest's kernel panicked, or QEMU died.
    case crashed(UUID)
    /// Until `reconnected` nothing is reported.
    case connectionLost
    /// Events in the gap are lost: list the domains.
    case reconnected
}

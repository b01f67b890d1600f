/// A sandbox with a virtual machine that an operator may look at.
public protocol MachineSandbox: Sandbox {
    /// - Parameter withXML: libvirt is asked for it.
    /// - Throws: `.failedPrecondition` while no machine runs.
    func describeMachine(withXML: Bool) async throws -> MachineDescription
}

/// A sandbox whose container is a virtual machine, one at a time. What is said here is about the one that runs.
///
/// Calls throw `.failedPrecondition` while none runs; asking again for what is so already succeeds. None needs the guest but
/// ``reboot(within:)`` and ``addAuthorizedKeys(_:of:)``.
public protocol MachineControl: MachineSandbox {
    /// Boots the guest again, at once and without asking it.
    func reset() async throws

    /// Has the guest shut itself down, and returns when it boots again, or when the machine has ended where that is its policy.
    ///
    /// - Throws: `.deadlineExceeded` with what to do, when the guest has not heeded the power button within `limit`.
    func reboot(within limit: Duration) async throws

    /// Stops the vCPUs until ``resume()``, also over restarts of the daemon; `halts` says so.
    func pause() async throws

    func resume() async throws

    /// - Returns: PNG.
    /// - Throws: `.failedPrecondition` for a machine without a screen.
    func screenshot() async throws -> [UInt8]

    /// Lets keys log in.
    ///
    /// - Parameter keys: lines of authorized_keys.
    /// - Throws: `.unavailable` where no agent of the guest answers; `.failedPrecondition` with the agent's words.
    func addAuthorizedKeys(_ keys: [String], of user: String) async throws

    /// Checks the tables of a container's disks, whether its machine runs or not, and changes nothing.
    ///
    /// - Throws: `.failedPrecondition` where none of them has a format with tables.
    func checkDisks(of container: String) async throws -> [CheckedDisk]
}

/// A virtual machine as an operator sees it.
public struct MachineDescription: Sendable, Equatable {
    /// What the machine does: raw values are the operator protocol's.
    public enum State: String, Sendable {
        case running
        case paused
        /// Stopped in the middle of a write, for want of room on the node.
        case diskFull = "disk-full"
        case stopping
        case crashed
        case unknown
    }

    /// The domain's name in libvirt.
    public var name: String
    public var uuid: String
    public var state: State
    /// QEMU.
    public var process: Int32?
    /// That it was started with, as its RAM in bytes; nil for one that grows.
    public var vcpus: Int?
    public var memory: UInt64?
    /// The file of the serial console.
    public var console: String
    /// A unix socket; nil without a screen.
    public var vncSocket: String?
    /// Nil when it was not asked for.
    public var xml: String?
    /// That the machine is; nil for one with containers in it.
    public var container: String?

    public init(
        name: String, uuid: String, state: State, process: Int32?, vcpus: Int? = nil, memory: UInt64? = nil, console: String,
        vncSocket: String? = nil, xml: String? = nil, container: String? = nil
    ) {
        (self.name, self.uuid, self.state, self.process) = (name, uuid, state, process)
        (self.vcpus, self.memory, self.console) = (vcpus, memory, console)
        (self.vncSocket, self.xml, self.container) = (vncSocket, xml, container)
    }
}

/// What a check of one disk found.
public struct CheckedDisk: Sendable, Equatable {
    /// As the guest sees it.
    public var serial: String
    public var path: String
    /// Clusters that are referred to wrongly.
    public var corruptions: UInt64
    /// Clusters that are taken and belong to nothing.
    public var leaks: UInt64
    /// Errors of the check itself.
    public var checkErrors: UInt64
    public var totalClusters: UInt64
    public var allocatedClusters: UInt64

    public init(
        serial: String, path: String, corruptions: UInt64, leaks: UInt64, checkErrors: UInt64, totalClusters: UInt64,
        allocatedClusters: UInt64
    ) {
        (self.serial, self.path, self.corruptions, self.leaks) = (serial, path, corruptions, leaks)
        (self.checkErrors, self.totalClusters, self.allocatedClusters) = (checkErrors, totalClusters, allocatedClusters)
    }
}

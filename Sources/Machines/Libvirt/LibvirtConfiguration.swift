/// Which libvirt to use, and how long its calls may take.
public struct LibvirtConfiguration: Sendable, Equatable {
    public enum Connection: Sendable, Equatable {
        /// The system daemon where one answers, otherwise the embedded driver.
        case auto
        /// The system daemon.
        case system
        /// Any URI that libvirt knows.
        case custom(String)
        /// libvirt's QEMU driver inside this process, with its files below `root`. One process per root at a time, and
        /// one root per process. Run below a `Subreaper`.
        case embed(root: String)
    }

    public var connection: Connection
    /// The embedded driver's directory when `auto` finds no daemon.
    public var embeddedRoot: String
    /// The daemon's socket that `auto` looks for.
    public var systemSocket: String
    /// Directories where the driver leaves QEMU's pid files, as `NAME.pid`.
    public var pidDirectories: [String]
    /// QEMU's program; nil for libvirt's choice.
    public var emulator: String?
    /// For opening a connection. The first open of a node probes QEMU, which takes seconds.
    public var openTimeout: Duration = .seconds(60)
    /// For a machine to be created.
    public var startTimeout: Duration = .seconds(30)
    /// For libvirt to destroy a machine before QEMU is killed by pid.
    public var destroyTimeout: Duration = .seconds(4)
    /// For every other call.
    public var callTimeout: Duration = .seconds(10)

    public init(
        connection: Connection = .auto, embeddedRoot: String = "/var/lib/swiftlet/libvirt",
        systemSocket: String = "/run/libvirt/libvirt-sock", pidDirectories: [String] = ["/run/libvirt/qemu"], emulator: String? = nil
    ) {
        self.connection = connection
        self.embeddedRoot = embeddedRoot
        self.systemSocket = systemSocket
        self.pidDirectories = pidDirectories
        self.emulator = emulator
    }
}

import Linux

/// Which libvirt to use, and how long its calls may take.
public struct LibvirtConfiguration: Sendable, Equatable {
    public enum Connection: Sendable, Equatable {
        /// The system daemon.
        case system
        /// Any URI that libvirt knows.
        case custom(String)
        /// libvirt's QEMU driver inside this process, with its files below `root`. One process per root at a time, and
        /// one root per process. Run below a `Subreaper`.
        case embed(root: String)

        /// The system daemon where one listens, else the embedded driver. Asked once per process: a program that embeds the driver
        /// has to run below a `Subreaper` from its start.
        ///
        /// - Parameter socket: the daemon's. A connect decides: the file alone outlives the daemon.
        public static func automatic(socket: String = "/run/libvirt/libvirt-sock", embeddedRoot: String) -> Connection {
            UnixSocket.connectFailure(path: socket) == nil ? .system : .embed(root: embeddedRoot)
        }
    }

    public var connection: Connection
    /// Where the embedded driver keeps the state of running machines: on a file system that machines do not fill, such as /run. Nil: below
    /// its root.
    public var embeddedRunDirectory: String?
    /// Directories where the driver leaves QEMU's pid files, as `NAME.pid`.
    public var pidDirectories: [String]
    /// Where libvirtd makes the directory of each machine's monitor socket.
    public var machineDirectory = "/var/lib/libvirt/qemu"
    /// Whom machines with users of their own run as.
    public var users: UserRange?
    /// The network namespace that the embedded driver starts QEMU in, with the taps that it is given; nil: this process's. libvirtd starts
    /// QEMU in its own.
    public var networkNamespace: String?
    /// QEMU's program; nil for libvirt's choice.
    public var emulator: String?
    /// For opening a connection. The first open of a node probes QEMU, which takes seconds.
    public var openTimeout: Duration = .seconds(60)
    /// For a machine to be created.
    public var startTimeout: Duration = .seconds(30)
    /// For libvirt to destroy a machine before QEMU is killed by pid.
    public var destroyTimeout: Duration = .seconds(4)
    /// For writing a machine's memory to a file, and for reading it back.
    public var saveTimeout: Duration = .seconds(120)
    /// For every other call.
    public var callTimeout: Duration = .seconds(10)

    /// Where libvirt logs what becomes of its domains, as `NAME.log`.
    var logDirectory: String? {
        switch connection {
        case .system: "/var/log/libvirt/qemu"
        case .custom: nil
        case .embed(let root): "\(root)/log/qemu"
        }
    }

    public init(
        connection: Connection, pidDirectories: [String] = ["/run/libvirt/qemu"], users: UserRange? = nil, emulator: String? = nil
    ) {
        self.connection = connection
        self.pidDirectories = pidDirectories
        self.users = users
        self.emulator = emulator
    }
}

import Errors
import Glibc

/// What one device serves and how much it lets both sides use.
public struct VsockDeviceOptions: Sendable {
    /// Path of the vhost-user socket QEMU connects to. Made with mode 0600.
    public var vhostSocket: String
    /// Path of the socket host programs connect to, made with mode 0600, and prefix of the sockets the guest reaches.
    public var hostSocket: String
    /// The guest's context id, 3 to 2^32 - 2.
    public var guestCID: UInt64
    /// QEMU's user: the owner of the vhost-user socket, and the only one who is served there. Nil: the process's own.
    public var machineUser: uid_t?
    public var logLevel: DeviceLogLevel
    public var limits: Limits

    public init(
        vhostSocket: String, hostSocket: String, guestCID: UInt64, machineUser: uid_t? = nil,
        logLevel: DeviceLogLevel = .error, limits: Limits = Limits()
    ) {
        self.vhostSocket = vhostSocket
        self.hostSocket = hostSocket
        self.guestCID = guestCID
        self.machineUser = machineUser
        self.logLevel = logLevel
        self.limits = limits
    }

    /// Bounds. All times are in nanoseconds.
    public struct Limits: Sendable {
        /// Connections host programs may have, those still greeting included.
        public var hostConnections = 1024
        /// Connections the guest may have opened; further ones are reset.
        public var guestConnections = 512
        /// Bytes held for a slow host program, per connection. Linux 6.1 never has more than 256 KiB in flight.
        public var window: UInt32 = 256 << 10
        /// With more connections than `manyConnections`, new ones get this window instead.
        public var smallWindow: UInt32 = 64 << 10
        public var manyConnections = 128
        /// For a client to send its CONNECT line.
        public var greetingTime: UInt64 = 30_000_000_000
        /// For the guest's driver to start while a client waits.
        public var bootTime: UInt64 = 120_000_000_000
        /// For the guest to answer a REQUEST.
        public var answerTime: UInt64 = 30_000_000_000
        /// A refusal is tried again until the driver has run this long: right after boot the listener may be missing…
        public var settleTime: UInt64 = 10_000_000_000
        /// …and until the client has waited this long.
        public var retryTime: UInt64 = 1_000_000_000
        /// For the guest to confirm the end of a connection (Linux: VSOCK_CLOSE_TIMEOUT, 8 s).
        public var closeTime: UInt64 = 8_000_000_000
        /// For host programs to take the last bytes after QEMU left.
        public var drainTime: UInt64 = 2_000_000_000

        public init() {}
    }

    /// - Throws: `invalidArgument` naming the option that cannot be.
    func validate() throws(SwiftletError) {
        guard (3...UInt64(UInt32.max) - 1).contains(guestCID) else {
            throw SwiftletError(.invalidArgument, "guest CID \(guestCID) must be 3 to \(UInt32.max - 1)")
        }
        // "_" and ten digits follow for the ports the guest connects to.
        guard hostSocket.utf8.count + 11 <= ListeningSocket.longestPath else {
            throw SwiftletError(
                .invalidArgument, "host socket path \(hostSocket) is longer than \(ListeningSocket.longestPath - 11) bytes")
        }
        guard vhostSocket != hostSocket else {
            throw SwiftletError(.invalidArgument, "the vhost-user socket and the host socket cannot both be \(hostSocket)")
        }
    }
}

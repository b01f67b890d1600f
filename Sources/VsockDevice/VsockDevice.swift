import CLinux
import Errors
import Glibc

/// The vsock device of one virtual machine, served to QEMU by vhost-user.
///
/// A host program reaches a port of the guest by the unix socket `hostSocket`: it sends `CONNECT <port>\n`, reads
/// `OK <port>\n` (or `ERROR <reason>\n` and the end), and from then on has a byte stream. A guest program that
/// connects to port P of the host (context id 2) is handed to whoever listens on `<hostSocket>_<P>`.
///
/// It is one loop on the thread that calls `run()`; nothing else may touch the object meanwhile.
public final class VsockDevice {
    /// Why `run()` returned.
    public enum End: Sendable, Equatable {
        /// The stop descriptor became readable.
        case stopped
        /// QEMU closed its end: the machine or its device is gone.
        case machineLeft
    }

    enum State: Equatable {
        /// No driver runs: not started yet, paused, or reset.
        case stopped
        case running
        /// The driver broke the protocol; nothing of it is looked at until it starts anew.
        case broken(String)
    }

    let options: VsockDeviceOptions
    let log: DeviceLog
    let poller: Poller
    private let vhostListener: ListeningSocket
    let hostListener: ListeningSocket

    // vhost-user
    var channel: VhostUserChannel?
    var memory: GuestMemory?
    var rings: [RingConfiguration]
    var protocolFeaturesAcknowledged = false
    var state = State.stopped
    var end: End?
    var brokenReports = 0

    // Traffic
    var receiveQueue: Virtqueue?
    var transmitQueue: Virtqueue?
    var connections = ConnectionTable()
    var ready = ReadyQueue()
    var resets = ResetQueue()
    var receiveStarved = false
    var transmitPending = false
    var driverStartedAt: UInt64 = 0
    var nextDeadline = UInt64.max
    /// Connections of others than QEMU that the log tells of.
    private static let maximumForeignReports = 4
    private var foreignReports = 0
    /// Given up for a moment when descriptors run out.
    var spare: Int32
    let segments = SegmentList()
    let window = SegmentList()
    let chains: UnsafeMutablePointer<DescriptorChain> = .allocate(capacity: VsockDevice.chainsPerRead)
    let headerBytes = UnsafeMutableRawPointer.allocate(byteCount: VsockHeader.size, alignment: 8)

    /// Makes both sockets and listens on them: when this returns, QEMU and host programs may connect.
    /// - Throws: `invalidArgument`, `alreadyExists`, `permissionDenied` or `internal`, naming the socket.
    public init(_ options: VsockDeviceOptions) throws(SwiftletError) {
        try options.validate()
        self.options = options
        log = DeviceLog(level: options.logLevel, prefix: "swiftlet-vsockd[\(options.guestCID)]")
        rings = [RingConfiguration(), RingConfiguration()]
        poller = try Poller()
        spare = poller.duplicate()
        vhostListener = try ListeningSocket(path: options.vhostSocket, mode: 0o600, owner: options.machineUser, backlog: 16)
        hostListener = try ListeningSocket(path: options.hostSocket, mode: 0o600, backlog: 1024)
        try poller.add(vhostListener.descriptor, .vhostListener, .readable)
        try poller.add(hostListener.descriptor, .hostListener, .readable)
    }

    deinit {
        for index in rings.indices { rings[index].closeAll() }
        if spare >= 0 { Glibc.close(spare) }
        chains.deallocate()
        headerBytes.deallocate()
    }

    /// Serves the device until QEMU leaves or `stop` becomes readable.
    /// - Parameter stop: a descriptor that stays the caller's, such as a signalfd.
    /// - Throws: `invalidArgument` when QEMU breaks the vhost-user protocol, `internal` or `resourceExhausted` when
    ///   the system fails. A guest that misbehaves never makes it throw.
    public func run(until stop: Int32? = nil) throws(SwiftletError) -> End {
        do {
            if let stop { try poller.add(stop, .stop, .readable) }
            defer { if let stop { poller.remove(stop) } }
            while end == nil { try turn() }
            if end == .machineLeft { try drain() }
        } catch {
            throw SwiftletError.wrap(error, "vsock device of guest \(options.guestCID)")
        }
        return end ?? .stopped
    }

    private func turn() throws {
        try poller.wait(milliseconds: pollTimeout) { source, readiness in try handle(source, readiness) }
        pumpFromGuest()
        pumpToGuest()
        expireDeadlines()
    }

    private var pollTimeout: Int32 {
        if transmitPending || (state == .running && !receiveStarved && hasPacketsForGuest) { return 0 }
        guard nextDeadline != .max else { return -1 }
        let now = monotonicNanoseconds()
        return now >= nextDeadline ? 0 : Int32(clamping: (nextDeadline - now) / 1_000_000 + 1)
    }

    private func handle(_ source: PollSource, _ readiness: Readiness) throws {
        switch source {
        case .stop: end = .stopped
        case .vhostListener: try acceptMachine()
        case .vhostChannel: try receiveMessages()
        case .hostListener: acceptClients()
        case .kick(let queue):
            rings[queue].drainKick()
            if queue == RingConfiguration.receive { receiveStarved = false } else { transmitPending = state == .running }
        case .connection(let slot, let generation):
            guard let connection = connections[slot: slot, generation] else { return }
            socketChanged(connection, readiness)
        }
    }

    private func acceptMachine() throws {
        guard let descriptor = vhostListener.accept() else { return }
        // The socket's mode lets in its owner and root: whoever else may write to any file is not QEMU either.
        let peer = ListeningSocket.peer(of: descriptor)
        guard peer == options.machineUser ?? geteuid() else {
            Glibc.close(descriptor)
            guard foreignReports < Self.maximumForeignReports else { return }
            foreignReports += 1
            return log.error("turned away user \(peer.map { "\($0)" } ?? "unknown"), who is not QEMU")
        }
        // One process serves one machine: a second front end is refused by the kernel.
        vhostListener.stopListening()
        channel = VhostUserChannel(descriptor: descriptor)
        try poller.add(descriptor, .vhostChannel, .readable)
        log.debug("QEMU connected")
    }

    /// The machine is gone; what its programs had sent still goes to host programs that read, for a bounded time.
    private func drain() throws {
        hostListener.stopListening()
        for connection in connections.all { guestLeft(connection) }
        let limit = monotonicNanoseconds() + options.limits.drainTime
        while connections.count > 0 {
            let now = monotonicNanoseconds()
            guard now < limit, end == .machineLeft else { return }
            try poller.wait(milliseconds: Int32(clamping: (limit - now) / 1_000_000 + 1)) { source, readiness in
                if source == .stop { end = .stopped }
                guard case .connection(let slot, let generation) = source,
                    let connection = connections[slot: slot, generation]
                else { return }
                socketChanged(connection, readiness)
            }
        }
    }
}

import DequeModule
import Glibc

/// One stream between a socket on the host and a port of the guest.
final class Connection {
    enum Phase: Equatable {
        /// A host client was accepted and has not said which port it wants.
        case greeting
        /// The client waits for the guest's driver or for the next attempt.
        case waiting
        /// A REQUEST is on its way.
        case requesting
        case established
        /// The host's side is over and its socket closed; the guest has to agree with a RST.
        case closing
        /// The guest's side is over; what it had sent still goes to the host's socket.
        case draining
        case closed
    }

    /// Packets the guest is to get about this connection besides data and SHUTDOWN.
    struct Owed: OptionSet {
        let rawValue: UInt8
        static let request = Owed(rawValue: 1)
        static let response = Owed(rawValue: 2)
        static let creditUpdate = Owed(rawValue: 4)
    }

    let slot: Int
    let generation: UInt32
    let startedByGuest: Bool
    var socket: Int32
    var phase: Phase
    var hostPort: UInt32 = 0
    var guestPort: UInt32 = 0
    var credit: Credit
    /// From the guest, not yet taken by the host's socket.
    let toHost: SocketBacklog
    var owed: Owed = []
    /// The host's socket may have bytes, or its end, for the guest.
    var readable = true
    /// Directions the host's side has ended, and those the guest knows of.
    var hostShutdown: VsockShutdown = []
    var announcedShutdown: VsockShutdown = []
    /// Directions the guest has ended.
    var guestShutdown: VsockShutdown = []
    /// In the queue of connections with something for the guest.
    var queued = false
    /// Monotonic nanoseconds at which something must have happened; `.max` for never.
    var deadline = UInt64.max
    /// When the client named its port, and how long until the next attempt after a refusal.
    var askedAt: UInt64 = 0
    var retryDelay: UInt64 = 0

    init(slot: Int, generation: UInt32, startedByGuest: Bool, socket: Int32, phase: Phase, window: UInt32) {
        self.slot = slot
        self.generation = generation
        self.startedByGuest = startedByGuest
        self.socket = socket
        self.phase = phase
        credit = Credit(window: window)
        toHost = SocketBacklog(limit: Int(window))
    }

    deinit {
        closeSocket()
    }

    /// Whether the guest should get a packet about this connection now.
    var hasSomethingForGuest: Bool {
        switch phase {
        case .requesting: !owed.isEmpty
        case .established: !owed.isEmpty || hostShutdown != announcedShutdown || mayRead
        case .closing: hostShutdown != announcedShutdown
        case .greeting, .waiting, .draining, .closed: false
        }
    }

    /// Whether bytes of the host's socket may go to the guest now.
    var mayRead: Bool {
        readable && phase == .established && !guestShutdown.contains(.receive) && !hostShutdown.contains(.send)
            && credit.available > 0
    }

    func closeSocket() {
        if socket >= 0 { close(socket) }
        socket = -1
    }
}

/// All connections, by slot and by their pair of ports.
struct ConnectionTable {
    private var slots: [Connection?] = []
    private var free: [Int] = []
    private var byPorts: [UInt64: Connection] = [:]
    private var nextGeneration: UInt32 = 0
    private var nextHostPort: UInt32 = ConnectionTable.firstHostPort
    private(set) var startedByGuest = 0
    private(set) var startedByHost = 0

    /// Source ports of the host's connections are dealt from here on, clear of ports somebody may listen on.
    private static let firstHostPort: UInt32 = 1 << 30

    var count: Int { startedByGuest + startedByHost }

    /// Takes the descriptor over.
    mutating func add(socket: Int32, startedByGuest guest: Bool, phase: Connection.Phase, window: UInt32) -> Connection {
        let slot = free.popLast() ?? slots.count
        if slot == slots.count { slots.append(nil) }
        nextGeneration &+= 1
        let connection = Connection(
            slot: slot, generation: nextGeneration, startedByGuest: guest, socket: socket, phase: phase, window: window)
        slots[slot] = connection
        if guest { startedByGuest += 1 } else { startedByHost += 1 }
        return connection
    }

    mutating func remove(_ connection: Connection) {
        guard slots[connection.slot] === connection else { return }
        unbind(connection)
        slots[connection.slot] = nil
        free.append(connection.slot)
        if connection.startedByGuest { startedByGuest -= 1 } else { startedByHost -= 1 }
    }

    subscript(slot slot: Int, generation: UInt32) -> Connection? {
        guard slots.indices.contains(slot), let connection = slots[slot], connection.generation == generation else { return nil }
        return connection
    }

    subscript(hostPort hostPort: UInt32, guestPort: UInt32) -> Connection? {
        byPorts[Self.key(hostPort, guestPort)]
    }

    /// Makes packets of this pair of ports belong to the connection.
    mutating func bind(_ connection: Connection, hostPort: UInt32, guestPort: UInt32) {
        connection.hostPort = hostPort
        connection.guestPort = guestPort
        byPorts[Self.key(hostPort, guestPort)] = connection
    }

    /// The pair of ports is free again; the connection itself stays.
    mutating func unbind(_ connection: Connection) {
        let key = Self.key(connection.hostPort, connection.guestPort)
        if byPorts[key] === connection { byPorts[key] = nil }
    }

    /// A host port that no connection to `guestPort` uses.
    mutating func freshHostPort(for guestPort: UInt32) -> UInt32 {
        while true {
            let port = nextHostPort
            nextHostPort = port == UInt32.max - 1 ? Self.firstHostPort : port + 1
            if self[hostPort: port, guestPort] == nil { return port }
        }
    }

    /// A snapshot, so that the table may change while it is walked.
    var all: [Connection] { slots.compactMap { $0 } }

    private static func key(_ hostPort: UInt32, _ guestPort: UInt32) -> UInt64 {
        UInt64(hostPort) << 32 | UInt64(guestPort)
    }
}

/// Connections that have something for the guest, served in turn.
struct ReadyQueue {
    private var items: Deque<Connection> = []

    var first: Connection? { items.first }

    mutating func append(_ connection: Connection) {
        guard !connection.queued else { return }
        connection.queued = true
        items.append(connection)
    }

    mutating func removeFirst() {
        items.removeFirst().queued = false
    }

    mutating func remove(_ connection: Connection) {
        guard connection.queued else { return }
        connection.queued = false
        if let index = items.firstIndex(where: { $0 === connection }) { items.remove(at: index) }
    }
}

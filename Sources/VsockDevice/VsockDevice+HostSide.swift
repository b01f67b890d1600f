import CLinux
import Glibc

// Sockets on the host: programs that ask for a port of the guest, and those the guest asks for.
extension VsockDevice {
    /// "CONNECT 4294967294\n" has 19 bytes; a longer line is no greeting.
    private static let longestGreeting = 32
    private static let firstRetryDelay: UInt64 = 5_000_000
    private static let longestRetryDelay: UInt64 = 100_000_000

    private var windowForNext: UInt32 {
        connections.count < options.limits.manyConnections ? options.limits.window : options.limits.smallWindow
    }

    func acceptClients() {
        while let socket = nextClient() {
            guard connections.startedByHost < options.limits.hostConnections else {
                Self.say("ERROR too many connections to this guest (\(options.limits.hostConnections))\n", to: socket)
                Glibc.close(socket)
                continue
            }
            add(socket, startedByGuest: false, .greeting, within: options.limits.greetingTime)
        }
    }

    /// With no descriptor left, the spare one makes room to take the client and send it away: a client that stays in the
    /// backlog would keep the loop busy.
    private func nextClient() -> Int32? {
        if let socket = hostListener.accept() { return socket }
        guard errno == EMFILE || errno == ENFILE, spare >= 0 else { return nil }
        Glibc.close(spare)
        if let socket = hostListener.accept() {
            Self.say("ERROR swiftlet-vsockd has no file descriptor left: raise its limit\n", to: socket)
            Glibc.close(socket)
        }
        spare = poller.duplicate()
        return nil
    }

    /// Connects the guest to whoever listens on the socket of the port it names.
    /// - Returns: false when there is nobody or no room, for the caller to refuse.
    func acceptFromGuest(_ header: VsockHeader) -> Bool {
        guard connections.startedByGuest < options.limits.guestConnections else { return false }
        let socket = clinux_unix_socket()
        guard socket >= 0 else { return false }
        // A unix socket connects at once or not at all.
        guard clinux_unix_connect(socket, "\(options.hostSocket)_\(header.destinationPort)") == 0 else {
            Glibc.close(socket)
            return false
        }
        guard let connection = add(socket, startedByGuest: true, .established, within: nil) else { return false }
        connections.bind(connection, hostPort: header.destinationPort, guestPort: header.sourcePort)
        _ = connection.credit.guestAnnounced(allocation: header.bufferAllocation, forwarded: header.forwardCount)
        connection.owed.insert(.response)
        schedule(connection)
        return true
    }

    /// Takes the socket over, and closes it if it cannot be watched.
    @discardableResult
    private func add(_ socket: Int32, startedByGuest guest: Bool, _ phase: Connection.Phase, within time: UInt64?) -> Connection? {
        let connection = connections.add(socket: socket, startedByGuest: guest, phase: phase, window: windowForNext)
        if let time { setDeadline(connection, in: time) }
        do {
            let source = PollSource.connection(slot: connection.slot, generation: connection.generation)
            try poller.add(socket, source, [.readable, .writable, .peerEnded, .edgeTriggered])
        } catch {
            log.error("a connection is dropped: \(error)")
            close(connection)
            return nil
        }
        return connection
    }

    /// Epoll reports a change of a connection's socket.
    func socketChanged(_ connection: Connection, _ readiness: Readiness) {
        if !readiness.isDisjoint(with: [.readable, .peerEnded, .hangUp, .error]) { connection.readable = true }
        let gone = !readiness.isDisjoint(with: [.hangUp, .error])
        switch connection.phase {
        case .greeting: if connection.readable { readGreeting(connection) }
        case .waiting: if gone { close(connection) }
        case .requesting:
            guard gone else { return }
            reset(connection)
            close(connection)
        case .established:
            if gone { hostStoppedReading(connection) } else { flush(connection) }
            if gone, connection.guestShutdown.contains(.receive) { connection.hostShutdown.insert(.send) }
            schedule(connection)
        case .draining:
            flush(connection)
            if gone { close(connection) }
        case .closing, .closed: break
        }
    }

    private func readGreeting(_ connection: Connection) {
        let limit = Self.longestGreeting
        withUnsafeTemporaryAllocation(byteCount: limit, alignment: 1) { bytes in
            // Only the line is taken: what follows it is for the guest.
            let seen = clinux_peek(connection.socket, bytes.baseAddress, limit)
            guard seen > 0 else {
                if seen == 0 || (errno != EAGAIN && errno != EINTR) { close(connection) } else { connection.readable = false }
                return
            }
            guard let newline = bytes.prefix(seen).firstIndex(of: UInt8(ascii: "\n")) else {
                if seen == limit { refuse(connection, "expected CONNECT <port>") }
                return
            }
            _ = clinux_receive(connection.socket, bytes.baseAddress, newline + 1)
            guard let port = Self.port(inGreeting: UnsafeRawBufferPointer(rebasing: bytes[..<newline])) else {
                return refuse(connection, "expected CONNECT <port>, with a port from 0 to \(UInt32.max - 1)")
            }
            connection.guestPort = port
            connection.askedAt = monotonicNanoseconds()
            retry(connection, after: 0)
        }
    }

    /// The port in `CONNECT <port>`, or nil.
    static func port(inGreeting line: UnsafeRawBufferPointer) -> UInt32? {
        let keyword = "CONNECT ".utf8
        guard line.starts(with: keyword), (1...10).contains(line.count - keyword.count) else { return nil }
        var port: UInt64 = 0
        for byte in line.dropFirst(keyword.count) {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            port = port * 10 + UInt64(byte - UInt8(ascii: "0"))
        }
        // VMADDR_PORT_ANY is no port.
        return port < UInt64(UInt32.max) ? UInt32(port) : nil
    }

    /// Tries to reach the guest for a client, `delay` from now; without a driver, when it starts.
    func retry(_ connection: Connection, after delay: UInt64) {
        connections.unbind(connection)
        connection.owed = []
        connection.phase = .waiting
        switch state {
        case .broken(let fault):
            refuse(connection, "the guest's vsock device is broken (\(fault)): restart the machine")
        case .stopped:
            setDeadline(connection, in: options.limits.bootTime)
        case .running where delay > 0:
            setDeadline(connection, in: delay)
        case .running:
            connections.bind(connection, hostPort: connections.freshHostPort(for: connection.guestPort), guestPort: connection.guestPort)
            connection.phase = .requesting
            connection.owed = .request
            setDeadline(connection, in: options.limits.answerTime)
            schedule(connection)
        }
    }

    func guestAccepted(_ connection: Connection) {
        connection.phase = .established
        connection.deadline = .max
        connection.readable = true
        Self.say("OK \(connection.guestPort)\n", to: connection.socket)
        log.debug("connected to port \(connection.guestPort)")
    }

    /// The guest answered a REQUEST with RST: nobody listens there, or not yet.
    func guestRefused(_ connection: Connection) {
        let now = monotonicNanoseconds()
        guard now < max(driverStartedAt + options.limits.settleTime, connection.askedAt + options.limits.retryTime) else {
            return refuse(connection, "nobody listens on port \(connection.guestPort) of the guest")
        }
        connection.retryDelay = min(max(connection.retryDelay * 2, Self.firstRetryDelay), Self.longestRetryDelay)
        retry(connection, after: connection.retryDelay)
    }

    /// Tells a client why it gets no connection.
    func refuse(_ connection: Connection, _ reason: String) {
        log.info("refusing a client: \(reason)")
        Self.say("ERROR \(reason)\n", to: connection.socket)
        close(connection)
    }

    /// Both are a few bytes into an empty socket buffer: it takes all of them, or the client is gone.
    private static func say(_ line: String, to socket: Int32) {
        var line = line
        line.withUTF8 { _ = clinux_send(socket, $0.baseAddress, $0.count) }
    }

    /// Passes on what the guest sent while the socket was full.
    private func flush(_ connection: Connection) {
        while !connection.toHost.isEmpty {
            let written = connection.toHost.send(to: connection.socket)
            guard written != 0 else { return }
            guard written > 0 else { return connection.phase == .draining ? close(connection) : hostStoppedReading(connection) }
            forwarded(connection, written)
        }
        if connection.phase == .draining {
            close(connection)
        } else if connection.guestShutdown.contains(.send) {
            shutdown(connection.socket, Int32(SHUT_WR))
        }
    }

    /// The host's socket takes no more: the guest hears of it, and what it sends is dropped.
    func hostStoppedReading(_ connection: Connection) {
        forwarded(connection, connection.toHost.count)
        connection.toHost.clear()
        connection.hostShutdown.insert(.receive)
    }

    /// The host's socket has given all its bytes. If it was closed, not just shut down, the guest hears both at once:
    /// the kernel ends both directions of a closed socket before it shows the end of its bytes.
    func hostStoppedSending(_ connection: Connection) {
        connection.hostShutdown.insert(.send)
        var entry = pollfd(fd: connection.socket, events: 0, revents: 0)
        if poll(&entry, 1, 0) == 1, entry.revents & Int16(POLLHUP) != 0 { hostStoppedReading(connection) }
    }

    /// The guest knows that the host's side is over; its RST is all that is missing.
    func hostLeft(_ connection: Connection) {
        connection.phase = .closing
        connection.closeSocket()
        setDeadline(connection, in: options.limits.closeTime)
    }

    // Deadlines

    func setDeadline(_ connection: Connection, in time: UInt64) {
        let (deadline, overflow) = monotonicNanoseconds().addingReportingOverflow(time)
        connection.deadline = overflow ? .max : deadline
        nextDeadline = min(nextDeadline, connection.deadline)
    }

    func expireDeadlines() {
        guard nextDeadline != .max else { return }
        let now = monotonicNanoseconds()
        guard now >= nextDeadline else { return }
        nextDeadline = .max
        for connection in connections.all {
            if connection.deadline <= now { expire(connection) } else { nextDeadline = min(nextDeadline, connection.deadline) }
        }
    }

    private func expire(_ connection: Connection) {
        connection.deadline = .max
        switch connection.phase {
        case .greeting: refuse(connection, "no CONNECT line in time")
        case .waiting where state == .running: retry(connection, after: 0)
        case .waiting: refuse(connection, "the guest's vsock driver does not run")
        case .requesting:
            reset(connection)
            refuse(connection, "the guest does not answer")
        case .closing: abort(connection)
        case .established, .draining, .closed: break
        }
    }
}

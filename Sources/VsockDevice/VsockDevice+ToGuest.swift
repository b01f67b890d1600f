import CLinux
import Glibc

// The receive queue: packets the guest gets.
extension VsockDevice {
    /// Receive chains filled by one read of a host socket: 16 of Linux's 4 KiB buffers are 64 KiB.
    static let chainsPerRead = 16
    /// Connections served before other descriptors are looked at again.
    private static let connectionsPerTurn = 32

    private enum Served {
        case yes
        case noChains
    }

    var hasPacketsForGuest: Bool { resets.first != nil || ready.first != nil }

    /// The connection takes its turn if it has something for the guest.
    func schedule(_ connection: Connection) {
        if connection.hasSomethingForGuest { ready.append(connection) }
    }

    /// Sends what waits, until nothing does, the guest has no more buffers, or the turn is over.
    func pumpToGuest() {
        guard state == .running, !receiveStarved, hasPacketsForGuest, var queue = receiveQueue, let memory else { return }
        var budget = Self.connectionsPerTurn
        var fault: RingFault?
        do throws(RingFault) {
            while budget > 0, hasPacketsForGuest {
                if try serveNext(&queue, memory) == .yes {
                    budget -= 1
                    continue
                }
                queue.enableNotifications()
                if queue.isEmpty {
                    receiveStarved = true
                    break
                }
                queue.disableNotifications()
            }
        } catch {
            fault = error
        }
        if queue.publish() { rings[RingConfiguration.receive].signalUsed() }
        receiveQueue = queue
        if let fault { markBroken(fault) }
    }

    private func serveNext(_ queue: inout Virtqueue, _ memory: GuestMemory) throws(RingFault) -> Served {
        if let entry = resets.first {
            let header = VsockHeader(
                sourceCID: entry.cid, destinationCID: options.guestCID, sourcePort: entry.hostPort,
                destinationPort: entry.guestPort, type: entry.type, operation: VsockOperation.reset)
            guard try send(header, &queue, memory) else { return .noChains }
            resets.removeFirst()
            return .yes
        }
        guard let connection = ready.first else { return .yes }
        guard try serve(connection, &queue, memory) == .yes else { return .noChains }
        // It may have closed meanwhile, which took it out of the queue.
        if ready.first === connection { ready.removeFirst() }
        schedule(connection)
        return .yes
    }

    /// Sends one packet, or one read's worth of data, for a connection.
    private func serve(_ connection: Connection, _ queue: inout Virtqueue, _ memory: GuestMemory) throws(RingFault) -> Served {
        guard connection.hasSomethingForGuest else { return .yes }
        if connection.owed.contains(.request) {
            guard try send(VsockOperation.request, connection, &queue, memory) else { return .noChains }
            connection.owed.remove(.request)
        } else if connection.owed.contains(.response) {
            guard try send(VsockOperation.response, connection, &queue, memory) else { return .noChains }
            connection.owed.remove(.response)
        } else if connection.owed.contains(.creditUpdate) {
            guard try send(VsockOperation.creditUpdate, connection, &queue, memory) else { return .noChains }
        } else if connection.mayRead {
            return try sendData(connection, &queue, memory)
        } else if connection.hostShutdown != connection.announcedShutdown {
            guard try send(VsockOperation.shutdown, connection, &queue, memory, flags: connection.hostShutdown.rawValue) else {
                return .noChains
            }
            connection.announcedShutdown = connection.hostShutdown
            if connection.hostShutdown == .both { hostLeft(connection) }
        }
        return .yes
    }

    private func header(_ operation: UInt16, _ connection: Connection) -> VsockHeader {
        connection.owed.remove(.creditUpdate)
        return VsockHeader(
            sourceCID: VsockHeader.hostCID, destinationCID: options.guestCID, sourcePort: connection.hostPort,
            destinationPort: connection.guestPort, operation: operation, bufferAllocation: connection.credit.window,
            forwardCount: connection.credit.announce())
    }

    /// - Returns: false when the guest has no buffer.
    private func send(
        _ operation: UInt16, _ connection: Connection, _ queue: inout Virtqueue, _ memory: GuestMemory, flags: UInt32 = 0
    ) throws(RingFault) -> Bool {
        guard !queue.isEmpty else { return false }
        var header = header(operation, connection)
        header.flags = flags
        return try send(header, &queue, memory)
    }

    private func send(_ header: VsockHeader, _ queue: inout Virtqueue, _ memory: GuestMemory) throws(RingFault) -> Bool {
        segments.removeAll()
        guard let chain = try queue.peek(at: 0, deviceWrites: true, memory: memory, into: segments) else { return false }
        guard chain.length >= VsockHeader.size else { throw .shortHeader(chain.length) }
        write(header, chain)
        queue.advance(1)
        queue.push(head: chain.head, length: UInt32(VsockHeader.size))
        return true
    }

    /// Reads the host's socket straight into the guest's buffers.
    private func sendData(_ connection: Connection, _ queue: inout Virtqueue, _ memory: GuestMemory) throws(RingFault) -> Served {
        var room = connection.credit.available
        segments.removeAll()
        window.removeAll()
        var count = 0
        while count < Self.chainsPerRead, room > 0,
            let chain = try queue.peek(at: UInt16(count), deviceWrites: true, memory: memory, into: segments)
        {
            let space = min(chain.length - VsockHeader.size, room)
            guard chain.length >= VsockHeader.size else { throw .shortHeader(chain.length) }
            guard space > 0 else { throw .noRoomForData }
            try addData(of: chain, space)
            (chains + count).initialize(to: chain)
            room -= space
            count += 1
        }
        guard count > 0 else { return .noChains }
        let received = clinux_receive_vector(connection.socket, window.base, window.count)
        guard received > 0 else {
            let failure = errno
            connection.readable = received < 0 && failure == EINTR
            if received == 0 {
                hostStoppedSending(connection)
            } else if failure != EAGAIN, failure != EINTR {
                abort(connection)
            }
            return .yes
        }
        deliver(received, count, connection, &queue)
        return .yes
    }

    /// Adds the bytes behind the header's place in a chain to the window that the socket is read into.
    private func addData(of chain: DescriptorChain, _ space: Int) throws(RingFault) {
        var skip = VsockHeader.size
        var remaining = space
        for index in chain.firstSegment..<chain.firstSegment + chain.segmentCount where remaining > 0 {
            let segment = segments.base[index]
            guard let base = segment.iov_base, segment.iov_len > skip else {
                skip -= segment.iov_len
                continue
            }
            let part = min(segment.iov_len - skip, remaining)
            guard window.append(base + skip, part) else { throw .tooManySegments }
            remaining -= part
            skip = 0
        }
    }

    /// Puts headers before the data that was read into the first chains, and gives those chains to the guest.
    private func deliver(_ received: Int, _ count: Int, _ connection: Connection, _ queue: inout Virtqueue) {
        var header = header(VsockOperation.data, connection)
        var remaining = received
        var taken: UInt16 = 0
        while remaining > 0, Int(taken) < count {
            let chain = chains[Int(taken)]
            let part = min(chain.length - VsockHeader.size, remaining)
            header.length = UInt32(part)
            write(header, chain)
            queue.push(head: chain.head, length: UInt32(VsockHeader.size + part))
            remaining -= part
            taken += 1
        }
        queue.advance(taken)
        connection.credit.sentToGuest(received)
    }

    private func write(_ header: VsockHeader, _ chain: DescriptorChain) {
        header.store(to: headerBytes)
        var done = 0
        for index in chain.firstSegment..<chain.firstSegment + chain.segmentCount where done < VsockHeader.size {
            guard let target = segments.base[index].iov_base else { return }
            let part = min(segments.base[index].iov_len, VsockHeader.size - done)
            memcpy(target, headerBytes + done, part)
            done += part
        }
    }
}

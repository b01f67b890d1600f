import CLinux
import Glibc

// The transmit queue: packets the guest sends.
extension VsockDevice {
    /// Packets handled before other descriptors are looked at again.
    private static let packetsPerTurn = 128

    /// Handles what the guest has made available, up to the turn's share.
    /// - Parameter whole: to handle all of it, at most one ring full.
    func pumpFromGuest(whole: Bool = false) {
        guard state == .running, transmitPending || whole, var queue = transmitQueue, let memory else { return }
        transmitPending = false
        var budget = whole ? Int(Virtqueue.maximumSize) : Self.packetsPerTurn
        var fault: RingFault?
        do throws(RingFault) {
            queue.disableNotifications()
            while true {
                segments.removeAll()
                guard let chain = try queue.peek(at: 0, deviceWrites: false, memory: memory, into: segments) else {
                    queue.enableNotifications()
                    if queue.isEmpty { break }
                    queue.disableNotifications()
                    continue
                }
                guard budget > 0 else {
                    transmitPending = true
                    break
                }
                budget -= 1
                try receive(chain)
                queue.advance(1)
                queue.push(head: chain.head, length: 0)
            }
        } catch {
            fault = error
        }
        if queue.publish() { rings[RingConfiguration.transmit].signalUsed() }
        transmitQueue = queue
        if let fault { markBroken(fault) }
    }

    private func receive(_ chain: DescriptorChain) throws(RingFault) {
        guard chain.length >= VsockHeader.size, segments.copyOut(headerBytes, VsockHeader.size) else { throw .shortHeader(chain.length) }
        let header = VsockHeader(loadingFrom: headerBytes)
        let room = chain.length - VsockHeader.size
        guard header.operation != VsockOperation.data || Int(header.length) <= room else {
            throw .lengthBeyondChain(claimed: header.length, actual: room)
        }
        guard header.sourceCID == options.guestCID else { return }
        guard header.destinationCID == VsockHeader.hostCID, header.type == VsockHeader.streamType,
            let connection = connections[hostPort: header.destinationPort, header.sourcePort]
        else { return receiveForNobody(header) }
        if header.operation == VsockOperation.reset {
            return connection.phase == .requesting ? guestRefused(connection) : guestLeft(connection)
        }
        guard connection.credit.guestAnnounced(allocation: header.bufferAllocation, forwarded: header.forwardCount) else {
            return abort(connection)
        }
        switch (header.operation, connection.phase) {
        case (VsockOperation.response, .requesting): guestAccepted(connection)
        case (_, .requesting): abort(connection)
        case (VsockOperation.shutdown, _): guestShutDown(connection, VsockShutdown(rawValue: header.flags).intersection(.both))
        case (VsockOperation.data, .established): receiveData(connection, Int(header.length))
        case (VsockOperation.creditUpdate, _), (VsockOperation.data, .closing): break
        case (VsockOperation.creditRequest, _): connection.owed.insert(.creditUpdate)
        default: return abort(connection)
        }
        schedule(connection)
    }

    private func receiveForNobody(_ header: VsockHeader) {
        guard header.operation != VsockOperation.reset else { return }
        if header.operation == VsockOperation.request, header.destinationCID == VsockHeader.hostCID,
            header.type == VsockHeader.streamType, acceptFromGuest(header)
        {
            return
        }
        resets.append(
            ResetQueue.Entry(
                cid: header.destinationCID, hostPort: header.destinationPort, guestPort: header.sourcePort, type: header.type))
    }

    /// Passes the `length` bytes behind the header in `segments` on to the host.
    private func receiveData(_ connection: Connection, _ length: Int) {
        guard connection.credit.receivedFromGuest(length), !connection.guestShutdown.contains(.send) else { return abort(connection) }
        guard length > 0 else { return }
        guard !connection.hostShutdown.contains(.receive) else { return forwarded(connection, length) }
        let payload = segments.dropping(VsockHeader.size, keeping: length)
        var written = 0
        if connection.toHost.isEmpty {
            written = clinux_send_vector(connection.socket, payload.baseAddress, payload.count)
            if written < 0 {
                guard errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM else {
                    forwarded(connection, length)
                    return hostStoppedReading(connection)
                }
                written = 0
            }
            forwarded(connection, written)
        }
        if written < length, !connection.toHost.append(payload, from: written) { abort(connection) }
    }

    /// The host took `count` bytes: the guest may send as many more.
    func forwarded(_ connection: Connection, _ count: Int) {
        connection.credit.forwardedToHost(count)
        if connection.credit.owesAnnouncement { connection.owed.insert(.creditUpdate) }
    }

    private func guestShutDown(_ connection: Connection, _ directions: VsockShutdown) {
        connection.guestShutdown.formUnion(directions)
        if connection.guestShutdown == .both || connection.phase == .closing {
            // Agreed at once, so that a guest's close() does not have to wait for a slow host program.
            reset(connection)
            return guestLeft(connection)
        }
        if connection.guestShutdown.contains(.send), connection.toHost.isEmpty { shutdown(connection.socket, Int32(SHUT_WR)) }
        if connection.guestShutdown.contains(.receive) { shutdown(connection.socket, Int32(SHUT_RD)) }
    }

    /// The guest's side is over: its last bytes still go to the host's socket, nothing comes back.
    func guestLeft(_ connection: Connection) {
        connections.unbind(connection)
        ready.remove(connection)
        switch connection.phase {
        case .greeting, .draining, .closed: return
        case .waiting, .requesting, .closing: return close(connection)
        case .established: break
        }
        guard !connection.toHost.isEmpty, connection.socket >= 0 else { return close(connection) }
        connection.phase = .draining
    }

    /// Ends a connection that broke the rules, on both sides.
    func abort(_ connection: Connection) {
        reset(connection)
        close(connection)
    }

    /// Owes the guest a RST for the pair of ports of a connection.
    func reset(_ connection: Connection) {
        resets.append(
            ResetQueue.Entry(
                cid: VsockHeader.hostCID, hostPort: connection.hostPort, guestPort: connection.guestPort,
                type: VsockHeader.streamType))
    }

    /// Forgets a connection and closes its socket.
    func close(_ connection: Connection) {
        connection.phase = .closed
        ready.remove(connection)
        connections.remove(connection)
        connection.closeSocket()
    }
}

extension SegmentList {
    /// Copies the first `length` bytes of all segments out of the guest's memory.
    /// - Returns: false if there are fewer.
    func copyOut(_ target: UnsafeMutableRawPointer, _ length: Int) -> Bool {
        var done = 0
        for index in 0..<count where done < length {
            let part = min(base[index].iov_len, length - done)
            guard let source = base[index].iov_base else { return false }
            memcpy(target + done, source, part)
            done += part
        }
        return done == length
    }

    /// The segments without their first `skip` bytes and cut to `length` bytes; the list itself is changed.
    func dropping(_ skip: Int, keeping length: Int) -> UnsafeBufferPointer<iovec> {
        var first = 0
        var skip = skip
        while first < count, base[first].iov_len <= skip {
            skip -= base[first].iov_len
            first += 1
        }
        guard first < count else { return UnsafeBufferPointer(start: base, count: 0) }
        base[first].iov_base += skip
        base[first].iov_len -= skip
        var last = first
        var remaining = length
        while last < count, remaining > 0 {
            base[last].iov_len = min(base[last].iov_len, remaining)
            remaining -= base[last].iov_len
            last += 1
        }
        return UnsafeBufferPointer(start: base + first, count: last - first)
    }
}

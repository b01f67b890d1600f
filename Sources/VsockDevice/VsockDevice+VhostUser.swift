import CLinux
import Errors
import Glibc

// What QEMU asks of the device, and when its queues run.
extension VsockDevice {
    /// Error lines about one guest that the log will ever hold: a hostile one could restart its driver for ever.
    private static let maximumBrokenReports = 16

    func receiveMessages() throws(SwiftletError) {
        while let channel, end == nil {
            switch try channel.receive() {
            case .nothingYet: return
            case .closed: machineLeft()
            case .message(var message):
                defer { for descriptor in message.descriptors { Glibc.close(descriptor) } }
                try handle(&message, channel)
            }
        }
    }

    private func machineLeft() {
        log.debug("QEMU left")
        // What the guest had queued before it went is still in its memory.
        pumpFromGuest(whole: true)
        stopQueues()
        channel = nil
        end = .machineLeft
    }

    private func handle(_ message: inout VhostUserMessage, _ channel: VhostUserChannel) throws(SwiftletError) {
        guard let request = VhostUserRequest(rawValue: message.request) else {
            log.debug("ignoring vhost-user request \(message.request)")
            if message.needsReply { try acknowledge(message, channel, status: 1) }
            return
        }
        log.debug("vhost-user \(request)")
        switch request {
        case .getFeatures: return try channel.reply(to: message.request, Self.bytes(VhostUserFeatures.offered))
        case .getProtocolFeatures: return try channel.reply(to: message.request, Self.bytes(VhostUserFeatures.offeredProtocol))
        case .getConfiguration: return try channel.reply(to: message.request, try configuration(message))
        case .getRingBase: return try channel.reply(to: message.request, try stopRing(message))
        case .setFeatures:
            let features: UInt64 = try field(message, 0)
            guard features & ~VhostUserFeatures.offered == 0 else {
                throw SwiftletError(.invalidArgument, "QEMU acknowledges features \(String(features, radix: 16)) that were not offered")
            }
            protocolFeaturesAcknowledged = features & VhostUserFeatures.protocolFeatures != 0
        case .setProtocolFeatures, .setOwner, .setConfiguration: break
        case .resetOwner, .resetDevice: stopQueues()
        case .setStatus:
            // Status 0 is the driver's reset (virtio 1.2, section 2.1).
            if try field(message, 0) as UInt64 == 0 { stopQueues() }
        case .setMemoryTable: try setMemoryTable(message)
        case .setRingSize: try setRing(message) { ring, value in ring.size = UInt16(clamping: value) }
        case .setRingBase: try setRing(message) { ring, value in ring.base = UInt16(truncatingIfNeeded: value) }
        case .setRingEnable: try setRing(message) { ring, value in ring.enabled = value != 0 }
        case .setRingAddresses: try setRingAddresses(message)
        case .setRingKick: try setKick(&message)
        case .setRingCall: try setEvent(.call, &message)
        case .setRingError: try setEvent(.error, &message)
        }
        startIfReady()
        if message.needsReply { try acknowledge(message, channel, status: 0) }
    }

    private func acknowledge(_ message: VhostUserMessage, _ channel: VhostUserChannel, status: UInt64) throws(SwiftletError) {
        try channel.reply(to: message.request, Self.bytes(status))
    }

    private static func bytes(_ value: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(littleEndian: value)
        return bytes
    }

    private func field<T: FixedWidthInteger>(_ message: VhostUserMessage, _ offset: Int) throws(SwiftletError) -> T {
        guard let value = message.integer(at: offset, as: T.self) else {
            throw SwiftletError(.invalidArgument, "vhost-user request \(message.request) has only \(message.payload.count) bytes")
        }
        return value
    }

    private func ringIndex(_ index: some BinaryInteger) throws(SwiftletError) -> Int {
        guard index < rings.count else { throw SwiftletError(.invalidArgument, "vsock has no queue \(index) for a back end") }
        return Int(index)
    }

    /// virtio_vsock_config is the guest's CID as le64; the request names offset, size and flags before it.
    private func configuration(_ message: VhostUserMessage) throws(SwiftletError) -> [UInt8] {
        let offset: UInt32 = try field(message, 0)
        let size: UInt32 = try field(message, 4)
        guard size <= 256, offset <= 256, message.payload.count == 12 + Int(size) else {
            throw SwiftletError(.invalidArgument, "QEMU asks for \(size) bytes of configuration at \(offset)")
        }
        let whole = Self.bytes(options.guestCID)
        var reply = Array(message.payload.prefix(12))
        for index in Int(offset)..<Int(offset + size) { reply.append(index < whole.count ? whole[index] : 0) }
        return reply
    }

    private func setMemoryTable(_ message: VhostUserMessage) throws(SwiftletError) {
        let count: UInt32 = try field(message, 0)
        guard count <= UInt32(GuestMemory.maximumRegions) else {
            throw SwiftletError(.invalidArgument, "QEMU sent \(count) memory regions, more than \(GuestMemory.maximumRegions)")
        }
        var regions: [MemoryRegion] = []
        for index in 0..<Int(count) {
            let offset = 8 + 32 * index
            regions.append(
                MemoryRegion(
                    guestAddress: try field(message, offset), size: try field(message, offset + 8),
                    userAddress: try field(message, offset + 16), fileOffset: try field(message, offset + 24)))
        }
        let fresh = try GuestMemory(regions, descriptors: message.descriptors)
        memory = fresh
        guard state == .running, let receive = receiveQueue, let transmit = transmitQueue else { return }
        // Hot-plug: the rings are where they were for QEMU and elsewhere for us.
        receiveQueue = queue(RingConfiguration.receive, from: receive.nextAvailable, fresh)
        transmitQueue = queue(RingConfiguration.transmit, from: transmit.nextAvailable, fresh)
        if receiveQueue == nil || transmitQueue == nil { markBroken(.unmapped) }
    }

    private func setRing(
        _ message: VhostUserMessage, _ change: (inout RingConfiguration, UInt32) -> Void
    ) throws(SwiftletError) {
        let index: UInt32 = try field(message, 0)
        let value: UInt32 = try field(message, 4)
        change(&rings[try ringIndex(index)], value)
    }

    private func setRingAddresses(_ message: VhostUserMessage) throws(SwiftletError) {
        let index: UInt32 = try field(message, 0)
        rings[try ringIndex(index)].addresses = RingAddresses(
            descriptors: try field(message, 8), available: try field(message, 24), used: try field(message, 16))
    }

    private func setEvent(_ event: RingConfiguration.Event, _ message: inout VhostUserMessage) throws(SwiftletError) {
        let value: UInt64 = try field(message, 0)
        let index = try ringIndex(value & 0xff)
        rings[index].replace(event, with: message.descriptors.popLast() ?? -1)
    }

    private func setKick(_ message: inout VhostUserMessage) throws(SwiftletError) {
        let value: UInt64 = try field(message, 0)
        let index = try ringIndex(value & 0xff)
        guard !message.descriptors.isEmpty else {
            throw SwiftletError(.invalidArgument, "QEMU gave queue \(index) no kick descriptor; polled queues are not supported")
        }
        unwatchKick(index)
        try setEvent(.kick, &message)
        try poller.add(rings[index].kick, .kick(queue: index), .readable)
    }

    private func unwatchKick(_ index: Int) {
        if rings[index].kick >= 0 { poller.remove(rings[index].kick) }
    }

    /// GET_VRING_BASE stops a queue: the guest is paused, or its driver was reset. The next start shows which.
    private func stopRing(_ message: VhostUserMessage) throws(SwiftletError) -> [UInt8] {
        let index = try ringIndex(try field(message, 0) as UInt32)
        pumpFromGuest(whole: true)
        stopQueues()
        unwatchKick(index)
        rings[index].replace(.kick, with: -1)
        var reply: [UInt8] = []
        reply.append(littleEndian: UInt32(index))
        reply.append(littleEndian: UInt32(rings[index].base))
        return reply
    }

    private func stopQueues() {
        if state == .running {
            if let queue = receiveQueue { rings[RingConfiguration.receive].base = queue.nextAvailable }
            if let queue = transmitQueue { rings[RingConfiguration.transmit].base = queue.nextAvailable }
            for index in rings.indices { rings[index].leftAt = rings[index].position }
        }
        (receiveQueue, transmitQueue) = (nil, nil)
        (receiveStarved, transmitPending) = (false, false)
        state = .stopped
    }

    private func queue(_ index: Int, from position: UInt16, _ memory: GuestMemory) -> Virtqueue? {
        guard let addresses = rings[index].addresses else { return nil }
        return Virtqueue(size: rings[index].size, addresses: addresses, nextAvailable: position, memory: memory)
    }

    private func startIfReady() {
        guard state == .stopped, let memory,
            rings.allSatisfy({ $0.kick >= 0 && $0.addresses != nil && ($0.enabled || !protocolFeaturesAcknowledged) })
        else { return }
        state = .running
        receiveQueue = queue(RingConfiguration.receive, from: rings[RingConfiguration.receive].base, memory)
        transmitQueue = queue(RingConfiguration.transmit, from: rings[RingConfiguration.transmit].base, memory)
        guard receiveQueue != nil, transmitQueue != nil else { return markBroken(.unmapped) }
        receiveQueue?.disableNotifications()
        transmitPending = true
        // A paused machine goes on with the very rings and positions it was stopped at; a new driver begins at 0.
        if !rings.allSatisfy({ $0.leftAt == $0.position }) { driverStarted() }
        log.debug("queues run")
    }

    /// A new driver knows nothing of what was before: all connections of the old one are over.
    private func driverStarted() {
        driverStartedAt = monotonicNanoseconds()
        resets.removeAll()
        for connection in connections.all {
            if connection.phase == .requesting || connection.phase == .waiting {
                retry(connection, after: 0)
            } else {
                guestLeft(connection)
            }
        }
        log.info("the guest's vsock driver started")
    }

    /// The guest broke the rules of the ring: its device is over until its driver starts anew.
    func markBroken(_ fault: RingFault) {
        guard state == .running else { return }
        stopQueues()
        for index in rings.indices { rings[index].leftAt = nil }
        state = .broken("\(fault)")
        resets.removeAll()
        for connection in connections.all {
            switch connection.phase {
            case .requesting, .waiting: refuse(connection, "the guest's vsock device is broken (\(fault)): restart the machine")
            default: guestLeft(connection)
            }
        }
        for ring in rings { ring.signalError() }
        brokenReports += 1
        if brokenReports <= Self.maximumBrokenReports { log.error("the guest broke its vsock device: \(fault)") }
    }
}

import CLinux
import Errors
import Glibc

@testable import VsockDevice

/// QEMU and a guest's virtio-vsock driver in one: it speaks vhost-user on a socket, and keeps rings and buffers in a
/// memfd. Guest memory has two regions with a hole between them; rings and receive buffers are in the low one,
/// transmit buffers in the high one.
final class VhostUserDriver {
    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    static let ringSize: UInt16 = 128
    static let chains = 64
    static let receiveBuffer = 4096
    static let transmitBuffer = 64 << 10
    static let low = MemoryRegion(guestAddress: 0, size: 1 << 20, userAddress: 0x7f00_0000_0000, fileOffset: 0)
    static let high = MemoryRegion(guestAddress: 1 << 32, size: 8 << 20, userAddress: 0x7f80_0000_0000, fileOffset: 1 << 20)
    static let receive = 0
    static let transmit = 1

    let socket: Int32
    private let memfd: Int32
    /// As the kernel shows it in the list of mappings.
    let memoryName: String
    let bytes: UnsafeMutableRawPointer
    private let fileSize = 16 << 20
    private var kicks: [Int32]
    private var calls: [Int32]
    private var available: [UInt16] = [0, 0]
    private var used: [UInt16] = [0, 0]
    private var freeTransmit: [Int] = []

    init(path: String) throws {
        socket = clinux_unix_socket()
        guard clinux_unix_connect(socket, path) == 0 else { throw Failure(description: "connect \(path): \(systemErrorText())") }
        memoryName = "guest-of-" + path.split(separator: "/").suffix(2).joined(separator: "-") + "-memory"
        memfd = clinux_memfd(memoryName)
        guard ftruncate(memfd, off_t(fileSize)) == 0,
            let mapped = mmap(nil, fileSize, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0), mapped != MAP_FAILED
        else { throw Failure(description: "guest memory: \(systemErrorText())") }
        bytes = mapped
        kicks = [clinux_eventfd(), clinux_eventfd()]
        calls = [clinux_eventfd(), clinux_eventfd()]
    }

    deinit {
        munmap(bytes, fileSize)
        for fd in kicks + calls + [memfd] { close(fd) }
        disconnect()
    }

    private var connected = true
    func disconnect() {
        if connected { close(socket) }
        connected = false
    }

    // MARK: vhost-user

    func send(
        _ request: VhostUserRequest, _ payload: [UInt8] = [], descriptors: [Int32] = [], needReply: Bool = false, raw: UInt32? = nil
    ) throws {
        var message: [UInt8] = []
        message.append(littleEndian: raw ?? request.rawValue)
        message.append(littleEndian: UInt32(needReply ? 9 : 1))
        message.append(littleEndian: UInt32(payload.count))
        message += payload
        guard clinux_send_with_fds(socket, message, message.count, descriptors, Int32(descriptors.count)) == message.count else {
            throw Failure(description: "send \(request): \(systemErrorText())")
        }
    }

    /// The payload of the device's next reply.
    func reply() throws -> [UInt8] {
        let header = try read(12)
        return try read(Int(header[8]) | Int(header[9]) << 8)
    }

    func reply64() throws -> UInt64 {
        try reply().withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
    }

    private func read(_ count: Int) throws -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            try wait(for: socket, POLLIN, "a reply")
            let result = buffer.withUnsafeMutableBytes { clinux_receive(socket, $0.baseAddress.map { $0 + done }, count - done) }
            guard result > 0 else { throw Failure(description: "the device closed the vhost-user socket") }
            done += result
        }
        return buffer
    }

    /// Waits, for a minute at most: a device that answers at all does so long before.
    func wait(for descriptor: Int32, _ events: Int32, _ what: String, milliseconds: Int32 = 60_000) throws {
        var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        guard poll(&entry, 1, milliseconds) == 1 else { throw Failure(description: "no \(what) in time") }
    }

    /// What QEMU does when the device is made.
    func realize() throws {
        try send(.getFeatures)
        guard try reply64() == 0x1_4000_0000 else { throw Failure(description: "features") }
        try send(.getProtocolFeatures)
        guard try reply64() == 0x208 else { throw Failure(description: "protocol features") }
        try send(.setProtocolFeatures, Self.payload(0x208))
        try send(.setOwner)
        try send(.getFeatures)
        _ = try reply64()
        for queue in 0..<2 {
            try send(.setRingCall, Self.payload(UInt64(queue)), descriptors: [calls[queue]])
            try send(.setRingError, Self.payload(UInt64(queue)), descriptors: [calls[queue]])
        }
    }

    static func payload(_ value: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(littleEndian: value)
        return bytes
    }

    static func payload(_ index: Int, _ value: UInt32) -> [UInt8] { payload(UInt64(index) | UInt64(value) << 32) }

    func configuration() throws -> [UInt8] {
        try send(.getConfiguration, Self.payload(0, 8) + [UInt8](repeating: 0, count: 12))
        return try reply()
    }

    func setMemory(_ regions: [MemoryRegion] = [VhostUserDriver.low, VhostUserDriver.high]) throws {
        var table: [UInt8] = []
        table.append(littleEndian: UInt32(regions.count))
        table.append(littleEndian: UInt32(0))
        for region in regions {
            for value in [region.guestAddress, region.size, region.userAddress, region.fileOffset] { table.append(littleEndian: value) }
        }
        try send(.setMemoryTable, table, descriptors: regions.map { _ in memfd }, needReply: true)
        guard try reply64() == 0 else { throw Failure(description: "memory table refused") }
    }

    /// Where the rings of a queue lie in the low region.
    static func ringOffset(_ queue: Int) -> UInt64 { UInt64(queue) * 0x4000 }
    static func addresses(_ queue: Int) -> RingAddresses {
        let base = low.userAddress + ringOffset(queue)
        return RingAddresses(descriptors: base, available: base + 0x1000, used: base + 0x2000)
    }

    /// What QEMU does when the driver starts or a paused machine goes on.
    func startQueues(bases: [UInt16] = [0, 0], addresses: [RingAddresses] = [addresses(0), addresses(1)]) throws {
        try send(.setFeatures, Self.payload(0x1_4000_0000))
        try setMemory()
        for queue in 0..<2 {
            try send(.setRingSize, Self.payload(queue, UInt32(Self.ringSize)))
            try send(.setRingBase, Self.payload(queue, UInt32(bases[queue])))
            var payload = Self.payload(queue, 0)
            for value in [addresses[queue].descriptors, addresses[queue].used, addresses[queue].available, 0] {
                payload.append(littleEndian: value)
            }
            try send(.setRingAddresses, payload)
            try send(.setRingKick, Self.payload(UInt64(queue)), descriptors: [kicks[queue]])
            try send(.setRingCall, Self.payload(UInt64(queue)), descriptors: [calls[queue]])
        }
        for queue in 0..<2 { try send(.setRingEnable, Self.payload(queue, 1)) }
        // The answer shows that all of it was handled.
        try send(.getFeatures)
        _ = try reply64()
    }

    /// The driver as it begins: empty rings, all receive buffers given to the device.
    func startDriver() throws {
        memset(bytes, 0, Int(Self.low.size))
        available = [0, 0]
        used = [0, 0]
        freeTransmit = Array(0..<Self.chains)
        for chain in 0..<Self.chains { offerReceiveChain(chain) }
        try startQueues()
    }

    /// - Returns: where the device stopped in each available ring.
    func stopQueues() throws -> [UInt16] {
        try (0..<2).map { queue in
            try send(.getRingBase, Self.payload(queue, 0))
            return try reply().withUnsafeBytes { UInt16($0.loadUnaligned(fromByteOffset: 4, as: UInt32.self)) }
        }
    }

    // MARK: Rings

    func writeDescriptor(_ queue: Int, _ index: Int, _ address: UInt64, _ length: UInt32, flags: UInt16, next: UInt16 = 0) {
        let entry = bytes + Int(Self.ringOffset(queue)) + 16 * index
        entry.storeBytes(of: address, as: UInt64.self)
        entry.storeBytes(of: length, toByteOffset: 8, as: UInt32.self)
        entry.storeBytes(of: flags, toByteOffset: 12, as: UInt16.self)
        entry.storeBytes(of: next, toByteOffset: 14, as: UInt16.self)
    }

    func availableRing(_ queue: Int) -> UnsafeMutableRawPointer { bytes + Int(Self.ringOffset(queue)) + 0x1000 }
    func usedRing(_ queue: Int) -> UnsafeMutableRawPointer { bytes + Int(Self.ringOffset(queue)) + 0x2000 }

    func makeAvailable(_ queue: Int, head: UInt16) {
        let ring = availableRing(queue)
        ring.storeBytes(of: head, toByteOffset: 4 + 2 * Int(available[queue] % Self.ringSize), as: UInt16.self)
        available[queue] &+= 1
        clinux_vring_store_index(ring, available[queue])
    }

    func kick(_ queue: Int) {
        var one: UInt64 = 1
        _ = write(kicks[queue], &one, 8)
    }

    /// Kicks only if the device asked for it, as Linux does.
    private func notify(_ queue: Int) {
        clinux_full_fence()
        if clinux_vring_load_flags(usedRing(queue)) == 0 { kick(queue) }
    }

    private static func receiveAddress(_ chain: Int) -> UInt64 { low.guestAddress + 0x10000 + UInt64(chain) * 0x2000 }

    /// Linux's shape: a descriptor for the header and one for 4 KiB of data.
    private func offerReceiveChain(_ chain: Int) {
        let address = Self.receiveAddress(chain)
        writeDescriptor(Self.receive, 2 * chain, address, 44, flags: 3, next: UInt16(2 * chain + 1))
        writeDescriptor(Self.receive, 2 * chain + 1, address + 0x1000, UInt32(Self.receiveBuffer), flags: 2)
        makeAvailable(Self.receive, head: UInt16(2 * chain))
    }

    private func takeUsed(_ queue: Int) -> (head: UInt32, length: UInt32)? {
        let ring = usedRing(queue)
        guard clinux_vring_load_index(ring) != used[queue] else { return nil }
        let entry = ring + 4 + 8 * Int(used[queue] % Self.ringSize)
        used[queue] &+= 1
        return (entry.load(as: UInt32.self), entry.load(fromByteOffset: 4, as: UInt32.self))
    }

    private func waitForCall(_ queue: Int, milliseconds: Int32 = 60_000) throws {
        try wait(
            for: calls[queue], POLLIN, queue == Self.receive ? "packet for the guest" : "room in the transmit queue",
            milliseconds: milliseconds)
        var count: UInt64 = 0
        _ = Glibc.read(calls[queue], &count, 8)
    }

    // MARK: Packets

    /// Sends a packet, waiting for a free buffer.
    func transmit(_ header: VsockHeader, _ payload: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)) throws {
        while freeTransmit.isEmpty {
            if let done = takeUsed(Self.transmit) { freeTransmit.append(Int(done.head) / 2) } else { try waitForCall(Self.transmit) }
        }
        let chain = freeTransmit.removeLast()
        let place = bytes + Int(Self.high.fileOffset) + chain * (Self.transmitBuffer + 64)
        let address = Self.high.guestAddress + UInt64(chain * (Self.transmitBuffer + 64))
        header.store(to: place)
        if let source = payload.baseAddress { memcpy(place + 64, source, payload.count) }
        writeDescriptor(Self.transmit, 2 * chain, address, 44, flags: payload.isEmpty ? 0 : 1, next: UInt16(2 * chain + 1))
        writeDescriptor(Self.transmit, 2 * chain + 1, address + 64, UInt32(payload.count), flags: 0)
        makeAvailable(Self.transmit, head: UInt16(2 * chain))
        notify(Self.transmit)
    }

    /// Calls `body` with the next packet from the device, whose bytes are valid meanwhile.
    /// - Returns: nil if none comes within the time.
    func receivePacket<T>(milliseconds: Int32 = 60_000, _ body: (VsockHeader, UnsafeRawBufferPointer) throws -> T) throws -> T? {
        while true {
            if let taken = takeUsed(Self.receive) {
                let chain = Int(taken.head) / 2
                let place = bytes + Int(Self.receiveAddress(chain))
                let header = VsockHeader(loadingFrom: place)
                let result = try body(header, UnsafeRawBufferPointer(start: place + 0x1000, count: Int(taken.length) - 44))
                offerReceiveChain(chain)
                notify(Self.receive)
                return result
            }
            do { try waitForCall(Self.receive, milliseconds: milliseconds) } catch {
                if milliseconds < 60_000 { return nil }
                throw error
            }
        }
    }
}

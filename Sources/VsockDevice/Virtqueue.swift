import CLinux
import Glibc

/// What a driver did to a ring that no driver may do. The device stops serving it until it starts anew.
enum RingFault: Error, Equatable {
    case unmapped
    case indexBeyondRing(UInt16)
    case tooManyAvailable(UInt16)
    case chainLoops
    case tooManySegments
    case outsideMemory(address: UInt64, length: UInt32)
    case wrongDirection
    case indirect
    case shortHeader(Int)
    case lengthBeyondChain(claimed: UInt32, actual: Int)
    case noRoomForData
}

/// A descriptor chain taken from the available ring: where its segments lie in a `SegmentList`.
struct DescriptorChain {
    var head: UInt16
    var firstSegment: Int
    var segmentCount: Int
    /// Bytes in all segments.
    var length: Int
}

/// A fixed array of iovecs, reused for every packet.
final class SegmentList {
    /// IOV_MAX: what one sendmsg or recvmsg takes.
    static let capacity = 1024
    let base: UnsafeMutablePointer<iovec> = .allocate(capacity: SegmentList.capacity)
    private(set) var count = 0

    deinit { base.deallocate() }

    func removeAll() { count = 0 }

    func append(_ pointer: UnsafeMutableRawPointer, _ length: Int) -> Bool {
        guard count < Self.capacity else { return false }
        (base + count).initialize(to: iovec(iov_base: pointer, iov_len: length))
        count += 1
        return true
    }
}

/// One split virtqueue (virtio 1.2, section 2.7) from the device's side. Every index and descriptor comes from a
/// hostile guest: it is loaded once and checked before use.
struct Virtqueue {
    /// A ring larger than this is refused; QEMU's vsock device has 128 entries.
    static let maximumSize: UInt32 = 1024

    private static let hasNext: UInt16 = 1
    private static let deviceWrites: UInt16 = 2
    private static let indirect: UInt16 = 4
    private static let noNotification: UInt16 = 1
    private static let noInterrupt: UInt16 = 1

    private let size: UInt16
    private let descriptors: UnsafeMutableRawPointer
    private let available: UnsafeMutableRawPointer
    private let used: UnsafeMutableRawPointer
    /// The next entry of the available ring to look at.
    private(set) var nextAvailable: UInt16
    private var nextUsed: UInt16
    private var unpublished = false

    /// - Parameter addresses: of the rings in QEMU's address space.
    /// - Returns: nil if any part of the rings lies outside the memory or is misaligned.
    init?(size: UInt16, addresses: RingAddresses, nextAvailable: UInt16, memory: GuestMemory) {
        let entries = UInt64(size)
        guard size > 0, size.nonzeroBitCount == 1, UInt32(size) <= Self.maximumSize,
            addresses.descriptors % 16 == 0, addresses.available % 2 == 0, addresses.used % 4 == 0,
            let descriptors = memory.bytes(atUser: addresses.descriptors, 16 * entries),
            let available = memory.bytes(atUser: addresses.available, 6 + 2 * entries),
            let used = memory.bytes(atUser: addresses.used, 6 + 8 * entries)
        else { return nil }
        self.size = size
        self.descriptors = descriptors
        self.available = available
        self.used = used
        self.nextAvailable = nextAvailable
        nextUsed = clinux_vring_load_index(used)
    }

    /// Whether the driver has made nothing available.
    var isEmpty: Bool { clinux_vring_load_index(available) == nextAvailable }

    /// Looks at the chain `offset` places ahead without taking it, and appends its segments.
    /// - Parameter deviceWrites: the direction all its descriptors must have.
    /// - Returns: nil when the driver has made no such chain available.
    func peek(
        at offset: UInt16, deviceWrites: Bool, memory: GuestMemory, into segments: SegmentList
    ) throws(RingFault) -> DescriptorChain? {
        let pending = clinux_vring_load_index(available) &- nextAvailable
        guard pending <= size else { throw .tooManyAvailable(pending) }
        guard offset < pending else { return nil }
        let head = clinux_vring_load_available(available, (nextAvailable &+ offset) & (size - 1))
        var chain = DescriptorChain(head: head, firstSegment: segments.count, segmentCount: 0, length: 0)
        var index = head
        var steps: UInt16 = 0
        while true {
            guard index < size else { throw .indexBeyondRing(index) }
            guard steps < size else { throw .chainLoops }
            steps += 1
            let descriptor = clinux_vring_load_desc(descriptors, index)
            guard descriptor.flags & Self.indirect == 0 else { throw .indirect }
            guard (descriptor.flags & Self.deviceWrites != 0) == deviceWrites else { throw .wrongDirection }
            try Self.append(descriptor, memory, segments)
            chain.length += Int(descriptor.length)
            guard descriptor.flags & Self.hasNext != 0 else { break }
            index = descriptor.next
        }
        chain.segmentCount = segments.count - chain.firstSegment
        return chain
    }

    /// A buffer that runs from one region into the next is split; one that leaves the memory is a fault.
    private static func append(
        _ descriptor: clinux_vring_desc, _ memory: GuestMemory, _ segments: SegmentList
    ) throws(RingFault) {
        var address = descriptor.address
        var remaining = UInt64(descriptor.length)
        while remaining > 0 {
            guard let piece = memory.bytes(atGuest: address, remaining) else {
                throw .outsideMemory(address: descriptor.address, length: descriptor.length)
            }
            guard segments.append(piece.pointer, piece.count) else { throw .tooManySegments }
            // No overflow: a region ends below 2^64, so the address behind its last byte exists.
            address += UInt64(piece.count)
            remaining -= UInt64(piece.count)
        }
    }

    /// Takes the `count` chains that were peeked at first.
    mutating func advance(_ count: UInt16) {
        nextAvailable &+= count
    }

    /// Returns a chain to the driver; it sees it after `publish()`.
    mutating func push(head: UInt16, length: UInt32) {
        clinux_vring_store_used(used, nextUsed & (size - 1), UInt32(head), length)
        nextUsed &+= 1
        unpublished = true
    }

    /// Shows the driver all chains pushed so far.
    /// - Returns: true if the driver wants to be interrupted for them.
    mutating func publish() -> Bool {
        guard unpublished else { return false }
        unpublished = false
        clinux_vring_store_index(used, nextUsed)
        clinux_full_fence()
        return clinux_vring_load_flags(available) & Self.noInterrupt == 0
    }

    /// Asks the driver for no kicks; it may send some all the same.
    func disableNotifications() {
        clinux_vring_store_flags(used, Self.noNotification)
    }

    /// Asks for kicks again. The caller must look at the ring once more afterwards: an entry may have come before.
    func enableNotifications() {
        clinux_vring_store_flags(used, 0)
        clinux_full_fence()
    }
}

/// Where a ring's three parts are, in QEMU's address space.
struct RingAddresses: Equatable {
    var descriptors: UInt64
    var available: UInt64
    var used: UInt64
}

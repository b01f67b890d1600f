/// The credit book of one connection: how much each side may send (virtio 1.2, section 5.10.6.3).
/// All counts run modulo 2^32, as on the wire.
struct Credit: Equatable {
    /// However much a guest offers, no more than this is in flight, so that counts modulo 2^32 stay comparable.
    private static let largestAllocation: UInt32 = 1 << 30

    /// Bytes we promise to hold for the guest.
    let window: UInt32
    /// Bytes taken from the guest's packets so far.
    private(set) var received: UInt32 = 0
    /// Bytes passed on to the host's socket so far: our forward count.
    private(set) var forwarded: UInt32 = 0
    /// The forward count the guest last received.
    private var announced: UInt32 = 0
    /// Bytes sent to the guest so far.
    private(set) var sent: UInt32 = 0
    private var peerAllocation: UInt32 = 0
    private var peerForwarded: UInt32 = 0

    init(window: UInt32) {
        self.window = window
    }

    /// Bytes we may send to the guest now.
    var available: Int {
        let inFlight = sent &- peerForwarded
        return inFlight >= peerAllocation ? 0 : Int(peerAllocation - inFlight)
    }

    /// Takes the guest's announcement from a header. An older one than the last is normal: Linux writes the count
    /// when it makes a packet, and two threads may queue theirs the other way round.
    /// - Returns: false when the guest claims to have consumed bytes that were never sent.
    mutating func guestAnnounced(allocation: UInt32, forwarded: UInt32) -> Bool {
        guard sent &- forwarded <= Self.largestAllocation else { return false }
        peerAllocation = min(allocation, Self.largestAllocation)
        if sent &- forwarded < sent &- peerForwarded { peerForwarded = forwarded }
        return true
    }

    mutating func sentToGuest(_ count: Int) {
        sent &+= UInt32(truncatingIfNeeded: count)
    }

    /// Books `count` bytes that arrived from the guest.
    /// - Returns: false when they exceed what we promised to hold.
    mutating func receivedFromGuest(_ count: Int) -> Bool {
        let held = received &- forwarded
        guard count <= Int(window) - Int(min(held, window)) else { return false }
        received &+= UInt32(truncatingIfNeeded: count)
        return true
    }

    mutating func forwardedToHost(_ count: Int) {
        forwarded &+= UInt32(truncatingIfNeeded: count)
    }

    /// The guest should hear of freed space now. A quarter of the window: with 256 KiB that is 64 KiB, the most
    /// Linux 6.1 tolerates before a stream stands still.
    var owesAnnouncement: Bool { forwarded &- announced >= window / 4 }

    /// The forward count goes out in a header.
    mutating func announce() -> UInt32 {
        announced = forwarded
        return forwarded
    }
}

import Glibc

/// What QEMU has set for one queue, and the descriptors it passed for it.
struct RingConfiguration {
    /// Queue numbers of the device (virtio 1.2, section 5.10.2); the event queue stays in QEMU.
    static let receive = 0
    static let transmit = 1

    var size: UInt16 = 0
    var addresses: RingAddresses?
    /// Where the device begins in the available ring.
    var base: UInt16 = 0
    var enabled = false
    private(set) var kick: Int32 = -1
    private var call: Int32 = -1
    private var error: Int32 = -1
    /// How the queue was left when it was last stopped: a driver that goes on from there was only paused.
    var leftAt: Position?

    struct Position: Equatable {
        var size: UInt16
        var addresses: RingAddresses?
        var base: UInt16
    }

    var position: Position { Position(size: size, addresses: addresses, base: base) }

    enum Event {
        case kick
        case call
        case error
    }

    /// Takes over the descriptor of an event, in place of an earlier one; -1 for none.
    mutating func replace(_ event: Event, with descriptor: Int32) {
        if descriptor >= 0 {
            // Neither may ever block the loop, whatever kind of file it is.
            _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        }
        let previous: Int32
        switch event {
        case .kick: (previous, kick) = (kick, descriptor)
        case .call: (previous, call) = (call, descriptor)
        case .error: (previous, error) = (error, descriptor)
        }
        if previous >= 0 { close(previous) }
    }

    mutating func closeAll() {
        replace(.kick, with: -1)
        replace(.call, with: -1)
        replace(.error, with: -1)
    }

    func drainKick() {
        var count: UInt64 = 0
        _ = read(kick, &count, 8)
    }

    /// Interrupts the driver.
    func signalUsed() { Self.signal(call) }

    /// Tells QEMU that the device gave up on this queue.
    func signalError() { Self.signal(error) }

    private static func signal(_ descriptor: Int32) {
        guard descriptor >= 0 else { return }
        var one: UInt64 = 1
        _ = write(descriptor, &one, 8)
    }
}

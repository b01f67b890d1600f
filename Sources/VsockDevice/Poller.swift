import CLinux
import Errors
import Glibc

/// What a descriptor in the epoll set belongs to, packed into the 64 bits epoll hands back.
enum PollSource: Equatable {
    case stop
    case vhostListener
    case vhostChannel
    case hostListener
    case kick(queue: Int)
    /// `generation` distinguishes a closed connection's late event from its successor's in the same slot.
    case connection(slot: Int, generation: UInt32)

    var token: UInt64 {
        switch self {
        case .stop: 0
        case .vhostListener: 1
        case .vhostChannel: 2
        case .hostListener: 3
        case .kick(let queue): 8 + UInt64(queue)
        case .connection(let slot, let generation): UInt64(slot + 16) << 32 | UInt64(generation)
        }
    }

    init?(token: UInt64) {
        switch token {
        case 0: self = .stop
        case 1: self = .vhostListener
        case 2: self = .vhostChannel
        case 3: self = .hostListener
        case 8, 9: self = .kick(queue: Int(token - 8))
        case (16 << 32)...:
            self = .connection(slot: Int(token >> 32) - 16, generation: UInt32(truncatingIfNeeded: token))
        default: return nil
        }
    }
}

/// Readiness as epoll reports it; the bits are the kernel's (linux/eventpoll.h).
struct Readiness: OptionSet {
    let rawValue: UInt32
    static let readable = Readiness(rawValue: 0x1)
    static let writable = Readiness(rawValue: 0x4)
    static let error = Readiness(rawValue: 0x8)
    static let hangUp = Readiness(rawValue: 0x10)
    static let peerEnded = Readiness(rawValue: 0x2000)
    static let edgeTriggered = Readiness(rawValue: 1 << 31)
}

/// An epoll instance and room for its events.
final class Poller {
    private static let capacity = 64
    private let descriptor: Int32
    private let events: UnsafeMutablePointer<epoll_event>

    init() throws(SwiftletError) {
        descriptor = clinux_epoll_create()
        guard descriptor >= 0 else { throw SwiftletError(.resourceExhausted, "cannot make an epoll instance: \(systemErrorText())") }
        events = .allocate(capacity: Self.capacity)
        events.initialize(repeating: epoll_event(), count: Self.capacity)
    }

    deinit {
        if descriptor >= 0 { close(descriptor) }
        events.deallocate()
    }

    /// Another descriptor of the same instance, or -1: takes a number without opening a file.
    func duplicate() -> Int32 { fcntl(descriptor, F_DUPFD_CLOEXEC, 0) }

    func add(_ fd: Int32, _ source: PollSource, _ interest: Readiness) throws(SwiftletError) {
        guard clinux_epoll_ctl(descriptor, EPOLL_CTL_ADD, fd, interest.rawValue, source.token) == 0 else {
            throw SwiftletError(.internal, "cannot watch a descriptor for \(source): \(systemErrorText())")
        }
    }

    func remove(_ fd: Int32) {
        _ = clinux_epoll_ctl(descriptor, EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// Waits for events, at most `milliseconds` (-1: without end; 0: not at all).
    func wait(milliseconds: Int32, _ body: (PollSource, Readiness) throws -> Void) throws {
        let count = epoll_wait(descriptor, events, Int32(Self.capacity), milliseconds)
        guard count >= 0 else {
            if errno == EINTR { return }
            throw SwiftletError(.internal, "epoll_wait failed: \(systemErrorText())")
        }
        for index in 0..<Int(count) {
            guard let source = PollSource(token: clinux_epoll_tag(events + index)) else { continue }
            try body(source, Readiness(rawValue: clinux_epoll_events(events + index)))
        }
    }
}

import Glibc

@testable import VsockDevice

/// The guest's sockets as far as the tests need them: it accepts connections, keeps Linux's credit rules, and does on
/// each port what the port stands for.
final class GuestStack {
    static let cid: UInt64 = 77
    /// Sends back what it gets; ends its side when the host has.
    static let echoPort: UInt32 = 7
    /// Takes and drops what it gets.
    static let sinkPort: UInt32 = 9
    /// Takes nothing out of its buffer.
    static let stuckPort: UInt32 = 10
    /// Sends `sourceBytes` bytes, then ends its side.
    static let sourcePort: UInt32 = 19
    static let sourceBytes = 1 << 20
    /// Refuses.
    static let closedPort: UInt32 = 1

    /// What Linux 6.1 gives a socket.
    static let buffer: UInt32 = 256 << 10

    struct Key: Hashable {
        var host: UInt32
        var guest: UInt32
    }

    struct Socket {
        var peerAllocation: UInt32
        var peerForwarded: UInt32
        var sent: UInt32 = 0
        var received: UInt32 = 0
        var forwarded: UInt32 = 0
        var announced: UInt32 = 0
        var pending: [UInt8] = []
        var toSend = 0
        var hostEnded = false
        var ended = false

        var credit: Int {
            let inFlight = sent &- peerForwarded
            return inFlight >= min(peerAllocation, GuestStack.buffer) ? 0 : Int(min(peerAllocation, GuestStack.buffer) - inFlight)
        }
    }

    let driver: VhostUserDriver
    private(set) var sockets: [Key: Socket] = [:]
    private(set) var seen: [UInt16: Int] = [:]
    /// Bytes the sink port took.
    private(set) var sunk = 0
    var refusals = 0

    init(_ driver: VhostUserDriver) {
        self.driver = driver
    }

    /// Handles packets until `done` says so.
    func serve(until done: (GuestStack) -> Bool) throws {
        while !done(self) { _ = try driver.receivePacket(milliseconds: 50) { try handle($0, $1) } }
    }

    /// Handles packets until none comes for a moment.
    func serveQuiet(milliseconds: Int32 = 200) throws {
        while try driver.receivePacket(milliseconds: milliseconds, { try handle($0, $1) }) != nil {}
    }

    func header(_ key: Key, _ operation: UInt16, flags: UInt32 = 0, length: Int = 0) -> VsockHeader {
        var header = VsockHeader(
            sourceCID: Self.cid, destinationCID: 2, sourcePort: key.guest, destinationPort: key.host, operation: operation)
        header.flags = flags
        header.length = UInt32(length)
        header.bufferAllocation = Self.buffer
        header.forwardCount = sockets[key]?.forwarded ?? 0
        sockets[key]?.announced = header.forwardCount
        return header
    }

    func connect(_ key: Key) throws {
        sockets[key] = Socket(peerAllocation: 0, peerForwarded: 0)
        try driver.transmit(header(key, VsockOperation.request))
    }

    func shutdown(_ key: Key, _ directions: VsockShutdown) throws {
        try driver.transmit(header(key, VsockOperation.shutdown, flags: directions.rawValue))
    }

    /// Queues bytes for the host and sends as many as the credit allows.
    func write(_ key: Key, _ bytes: some Sequence<UInt8>) throws {
        sockets[key]?.pending.append(contentsOf: bytes)
        try push(key)
    }

    private func handle(_ packet: VsockHeader, _ payload: UnsafeRawBufferPointer) throws {
        seen[packet.operation, default: 0] += 1
        let key = Key(host: packet.sourcePort, guest: packet.destinationPort)
        guard packet.sourceCID == 2 || packet.operation == VsockOperation.reset, packet.destinationCID == Self.cid,
            payload.count == Int(packet.length)
        else {
            throw VhostUserDriver.Failure(description: "odd packet \(packet)")
        }
        if packet.operation == VsockOperation.request {
            guard key.guest != Self.closedPort, refusals == 0 else {
                refusals = max(0, refusals - 1)
                return try driver.transmit(header(key, VsockOperation.reset))
            }
            sockets[key] = Socket(peerAllocation: packet.bufferAllocation, peerForwarded: packet.forwardCount)
            try driver.transmit(header(key, VsockOperation.response))
            if key.guest == Self.sourcePort {
                sockets[key]?.toSend = Self.sourceBytes
                try push(key)
            }
            return
        }
        guard sockets[key] != nil else {
            if packet.operation != VsockOperation.reset { try driver.transmit(header(key, VsockOperation.reset)) }
            return
        }
        sockets[key]?.peerAllocation = packet.bufferAllocation
        sockets[key]?.peerForwarded = packet.forwardCount
        switch packet.operation {
        case VsockOperation.reset: sockets[key] = nil
        case VsockOperation.shutdown:
            if VsockShutdown(rawValue: packet.flags) == .both {
                sockets[key] = nil
                return try driver.transmit(header(key, VsockOperation.reset))
            }
            sockets[key]?.hostEnded = packet.flags & VsockShutdown.send.rawValue != 0
        case VsockOperation.data: try take(key, payload)
        case VsockOperation.creditRequest: try driver.transmit(header(key, VsockOperation.creditUpdate))
        default: break
        }
        try push(key)
    }

    private func take(_ key: Key, _ payload: UnsafeRawBufferPointer) throws {
        guard var socket = sockets[key] else { return }
        socket.received &+= UInt32(payload.count)
        guard socket.received &- socket.forwarded <= Self.buffer else { throw VhostUserDriver.Failure(description: "credit overrun") }
        if key.guest != Self.stuckPort { socket.forwarded = socket.received }
        if key.guest == Self.echoPort { socket.pending.append(contentsOf: payload) }
        if key.guest == Self.sinkPort { sunk += payload.count }
        sockets[key] = socket
        if socket.forwarded &- socket.announced >= Self.buffer - 65536 { try driver.transmit(header(key, VsockOperation.creditUpdate)) }
    }

    /// What the source port sends.
    static let sourceStream: [UInt8] = (0..<sourceBytes).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }

    private func push(_ key: Key) throws {
        while let socket = sockets[key], !socket.ended, socket.credit > 0, !socket.pending.isEmpty || socket.toSend > 0 {
            let count = min(socket.credit, VhostUserDriver.transmitBuffer, socket.pending.isEmpty ? socket.toSend : socket.pending.count)
            if socket.pending.isEmpty {
                let start = Self.sourceBytes - socket.toSend
                try Self.sourceStream.withUnsafeBytes {
                    try driver.transmit(
                        header(key, VsockOperation.data, length: count), UnsafeRawBufferPointer(rebasing: $0[start..<start + count]))
                }
                sockets[key]?.toSend -= count
            } else {
                try socket.pending.withUnsafeBytes {
                    try driver.transmit(header(key, VsockOperation.data, length: count), UnsafeRawBufferPointer(rebasing: $0[..<count]))
                }
                sockets[key]?.pending.removeFirst(count)
            }
            sockets[key]?.sent &+= UInt32(count)
        }
        guard let socket = sockets[key], !socket.ended, socket.pending.isEmpty, socket.toSend == 0 else { return }
        if key.guest == Self.sourcePort || (key.guest == Self.echoPort && socket.hostEnded) {
            sockets[key]?.ended = true
            try driver.transmit(header(key, VsockOperation.shutdown, flags: VsockShutdown.send.rawValue))
        }
    }
}

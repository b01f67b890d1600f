import CLinux
import Errors
import Foundation
import Glibc

/// A connection to the port of a qemu-guest-agent, for one thread. Each wait ends by the deadline; what the guest sends is bounded.
///
/// The port serves one client, and the guest's answers to a former one may still lie in it: each connection begins with
/// `guest-sync-delimited` (QEMU's docs/interop/qemu-ga-ref).
final class AgentConnection: @unchecked Sendable {  // used by one piece of QemuAgent's queue at a time
    /// Bytes of a reply that holds what a process has written. More than some 10 MiB of one reply makes small guests hang.
    static let largestOutput = 10 << 20
    /// Bytes of any other reply.
    static let largestReply = 64 << 10
    /// Bytes of former answers that are passed over.
    static let mostStale = 64 << 20

    private let descriptor: Int32
    private let replies: LargeReplies
    /// Of the present call.
    var deadline: ContinuousClock.Instant
    private var received: [UInt8] = []
    /// Of `received`, what has been taken.
    private var taken = 0

    /// - Parameter peer: whom the other end has to be; nil: anybody.
    init(path: String, peer: UInt32? = nil, replies: LargeReplies, deadline: ContinuousClock.Instant) throws {
        (self.replies, self.deadline) = (replies, deadline)
        descriptor = clinux_unix_socket()
        guard descriptor >= 0 else { throw SwiftletError.system("qemu-guest-agent: socket") }
        guard clinux_unix_connect(descriptor, path) == 0 else {
            let error = SwiftletError.system("connect to the port of qemu-guest-agent")
            Glibc.close(descriptor)
            throw SwiftletError(.unavailable, error.message, cause: error)
        }
        var user = uid_t()
        if let peer, clinux_unix_peer(descriptor, &user) != 0 || user != peer {
            Glibc.close(descriptor)
            throw SwiftletError(.unavailable, "the port of qemu-guest-agent is not its machine's")
        }
    }

    deinit { Glibc.close(descriptor) }

    /// Nothing has come that nobody asked for, and the other end is there.
    var isQuiet: Bool {
        var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return taken == received.count && Glibc.poll(&poll, 1, 0) == 0
    }

    /// Passes over what the agent has said to others.
    func synchronize() throws {
        let number = Int.random(in: 1...Int(Int32.max))
        try write([0xFF] + AgentRequest("guest-sync-delimited", ["id": .number(number)]).bytes)
        var stale = 0
        while true {
            while let byte = try next() {
                stale += 1
                guard stale <= Self.mostStale else { throw SwiftletError(.dataLoss, "qemu-guest-agent says nonsense without end") }
                if byte == 0xFF { break }
            }
            let line = try line(atMost: 4096).bytes
            if let reply = try? JSONDecoder().decode(AgentReply<Int>.self, from: Data(line)), reply.value == number { return }
            stale += line.count + 1
            guard stale <= Self.mostStale else { throw SwiftletError(.dataLoss, "qemu-guest-agent says nonsense without end") }
        }
    }

    func call<Value: Decodable>(_ request: AgentRequest, _ type: Value.Type) throws -> Value {
        try write(request.bytes)
        let line = try line(atMost: request.hasOutput ? Self.largestOutput : Self.largestReply)
        let reply = try withExtendedLifetime(line) {
            // A decoder makes some hundred bytes of each element.
            guard AgentReply<Value>.isFlat(line.bytes) else {
                throw SwiftletError(.dataLoss, "qemu-guest-agent's reply to \(request.command) has too many elements")
            }
            let turn = try line.place == nil ? nil : replies.decoding.take(by: deadline)
            defer { turn?.giveBack() }
            return try? JSONDecoder().decode(AgentReply<Value>.self, from: Data(line.bytes))
        }
        guard let reply else { throw SwiftletError(.dataLoss, "qemu-guest-agent's reply to \(request.command) is none") }
        if let failure = reply.failure {
            throw SwiftletError(.failedPrecondition, "qemu-guest-agent, \(request.command): \(printable(failure, limit: 1024))")
        }
        guard let value = reply.value else { throw SwiftletError(.dataLoss, "qemu-guest-agent's reply to \(request.command) is empty") }
        return value
    }

    func write(_ bytes: [UInt8]) throws {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { clinux_send(descriptor, $0.baseAddress.map { $0 + done }, bytes.count - done) }
            if count > 0 {
                done += count
            } else if errno == EAGAIN {
                try wait(POLLOUT)
            } else if errno != EINTR {
                throw SwiftletError(.unavailable, "write to qemu-guest-agent: \(String(cString: strerror(errno)))")
            }
        }
    }

    private struct Line {
        var bytes: [UInt8] = []
        /// Of a large one, until it is gone.
        var place: ReplyPlaces.Place?
    }

    private func line(atMost limit: Int) throws -> Line {
        var (line, place): ([UInt8], ReplyPlaces.Place?) = ([], nil)
        while true {
            if taken == received.count { try fill() }
            let rest = received[taken...]
            let end = rest.firstIndex(of: UInt8(ascii: "\n"))
            let piece = rest[..<(end ?? rest.endIndex)]
            taken = end.map { $0 + 1 } ?? received.count
            // What a former client was sent ends where a new answer begins.
            if let mark = piece.lastIndex(of: 0xFF) { line = Array(piece[(mark + 1)...]) } else { line += piece }
            guard line.count <= limit else {
                let advice =
                    ": it sends a command's whole output in one, as base64; let the command write less than some 7 MiB, or write to a file"
                throw SwiftletError(
                    .resourceExhausted,
                    "qemu-guest-agent's reply is larger than \(limit) bytes" + (limit == Self.largestOutput ? advice : ""))
            }
            if place == nil, line.count > Self.largestReply { place = try replies.reading.take(by: deadline) }
            if end != nil { return Line(bytes: line, place: place) }
        }
    }

    private func next() throws -> UInt8? {
        if taken == received.count { try fill() }
        defer { taken += 1 }
        return received[taken]
    }

    private func fill() throws {
        while true {
            // Also of a guest that never stops talking.
            guard .now < deadline else { throw Self.late }
            var count = 0
            received = [UInt8](unsafeUninitializedCapacity: 64 << 10) { buffer, length in
                count = clinux_receive(descriptor, buffer.baseAddress, buffer.count)
                length = max(0, count)
            }
            taken = 0
            if count > 0 { return }
            guard count < 0 else { throw SwiftletError(.unavailable, "qemu-guest-agent's port was closed") }
            if errno == EAGAIN { try wait(POLLIN) } else if errno != EINTR { throw SwiftletError.system("read from qemu-guest-agent") }
        }
    }

    static let late = SwiftletError(
        .deadlineExceeded, "qemu-guest-agent does not answer: it does not run in the guest, or it hangs")

    static let crowded = SwiftletError(
        .deadlineExceeded, "qemu-guest-agent's reply is larger than \(largestReply) bytes, and other guests' large ones take too long")

    private func wait(_ events: Int32) throws {
        let left = (deadline - .now) / .milliseconds(1)
        guard left > 0 else { throw Self.late }
        var poll = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        _ = Glibc.poll(&poll, 1, Int32(min(left.rounded(.up), 60_000)))
    }
}

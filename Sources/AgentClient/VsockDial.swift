import AgentProtocol
import Errors
import Glibc
import Linux
import Runtime
import Synchronization

/// The way to one connected guest port: connect, the proxy's greeting, and for a stream its token. Bounded by a deadline.
final class VsockDial: Sendable {
    private enum Phase {
        case connecting
        /// The proxy's line so far.
        case greeting([UInt8])
        case token
        case done
    }

    private struct State {
        var phase = Phase.connecting
        var watch: EventLoop.Watch?
        var interest: EventLoop.Readiness = []
        var timer: EventLoop.Timer?
        var continuation: CheckedContinuation<Int32, any Error>?
        var cancelled = false
    }

    /// "OK 4294967295\n"; a proxy that says more is none.
    private static let longestGreeting = 32

    private let address: VsockAddress
    private let port: UInt32
    private let token: [UInt8]?
    private let descriptor: Int32
    private let loop: EventLoop
    private let state = Mutex(State())

    /// Connects to a guest port.
    ///
    /// - Parameter token: sent after the connection stands; the guest's one-byte answer is awaited.
    /// - Returns: a non-blocking descriptor that the caller owns.
    /// - Throws: `.unavailable` when nothing listens (yet), `.permissionDenied` for a refused token, `.deadlineExceeded`,
    ///   `.cancelled`.
    static func connect(
        _ address: VsockAddress, port: UInt32, token: [UInt8]? = nil, deadline: ContinuousClock.Instant, loop: EventLoop
    ) async throws -> Int32 {
        let descriptor = try address.beginConnection(port: port)
        let dial = VsockDial(address: address, port: port, token: token, descriptor: descriptor, loop: loop)
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { dial.start($0, deadline: deadline) }
        } onCancel: {
            dial.cancel()
        }
    }

    private init(address: VsockAddress, port: UInt32, token: [UInt8]?, descriptor: Int32, loop: EventLoop) {
        self.address = address
        self.port = port
        self.token = token
        self.descriptor = descriptor
        self.loop = loop
    }

    private func start(_ continuation: CheckedContinuation<Int32, any Error>, deadline: ContinuousClock.Instant) {
        let cancelled = state.withLock { state in
            state.continuation = continuation
            return state.cancelled
        }
        if cancelled { return finish(.failure(SwiftletError(.cancelled, "\(step): cancelled"))) }
        let timer = loop.schedule(at: deadline) { [self] in
            finish(.failure(SwiftletError(.deadlineExceeded, "\(step): no answer in time")))
        }
        do {
            let watch = try loop.watch(descriptor, []) { [self] _ in advance() }
            let finished = state.withLock { state in
                guard state.continuation != nil else { return true }
                state.watch = watch
                state.timer = timer
                wait(for: .writable, &state)
                return false
            }
            if finished { loop.unwatch(watch, descriptor: -1) }
        } catch {
            loop.cancel(timer)
            finish(.failure(error))
        }
    }

    private func cancel() {
        let started = state.withLock { state in
            state.cancelled = true
            return state.continuation != nil
        }
        if started { finish(.failure(SwiftletError(.cancelled, "\(step): cancelled"))) }
    }

    private var step: String { "guest port \(port)" }

    private func advance() {
        let result = state.withLock { state -> Result<Int32, any Error>? in
            do {
                return try advance(&state) ? .success(descriptor) : nil
            } catch {
                return .failure(error)
            }
        }
        if let result { finish(result) }
    }

    /// Goes as far as the socket lets; true when the connection stands.
    private func advance(_ state: inout State) throws(SwiftletError) -> Bool {
        while true {
            switch state.phase {
            case .connecting:
                try checkConnected()
                if case .unixProxy = address {
                    try send(Array("CONNECT \(port)\n".utf8))
                    state.phase = .greeting([])
                    wait(for: .readable, &state)
                } else if try sendToken(&state) {
                    return true
                }
            case .greeting(var line):
                guard let byte = try receive() else { return false }
                line.append(byte)
                state.phase = .greeting(line)
                guard byte == UInt8(ascii: "\n") else {
                    if line.count < Self.longestGreeting { continue }
                    throw SwiftletError(.unavailable, "\(step): the vsock proxy does not answer as one")
                }
                guard line.starts(with: Array("OK ".utf8)) else {
                    throw SwiftletError(.unavailable, "\(step): the vsock proxy refused the connection")
                }
                if try sendToken(&state) { return true }
            case .token:
                guard let answer = try receive() else { return false }
                guard answer == AgentContract.streamAccepted else {
                    throw SwiftletError(.permissionDenied, "\(step): the guest refused the stream's token: open the stream again")
                }
                return true
            case .done:
                return false
            }
        }
    }

    /// True when there is no token to wait for.
    private func sendToken(_ state: inout State) throws(SwiftletError) -> Bool {
        guard let token else { return true }
        try send(token)
        state.phase = .token
        wait(for: .readable, &state)
        return false
    }

    private func checkConnected() throws(SwiftletError) {
        var number: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &number, &length) == 0 else { throw .system(step) }
        guard number == 0 else { throw SwiftletError(.unavailable, step, cause: SystemError(number)) }
    }

    /// A few bytes into an empty socket buffer never have to wait.
    private func send(_ bytes: [UInt8]) throws(SwiftletError) {
        guard Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
            throw SwiftletError(.unavailable, step, cause: SystemError(errno))
        }
    }

    /// One byte, so that nothing of the stream behind it is taken; nil when none is there yet.
    private func receive() throws(SwiftletError) -> UInt8? {
        var byte: UInt8 = 0
        while true {
            switch recv(descriptor, &byte, 1, 0) {
            case 1: return byte
            case 0: throw SwiftletError(.unavailable, "\(step): the connection was closed before it stood")
            default:
                if errno == EINTR { continue }
                if errno == EAGAIN { return nil }
                throw SwiftletError(.unavailable, step, cause: SystemError(errno))
            }
        }
    }

    private func wait(for readiness: EventLoop.Readiness, _ state: inout State) {
        guard let watch = state.watch else { return }
        loop.change(watch, descriptor: descriptor, from: state.interest, to: readiness)
        state.interest = readiness
    }

    private func finish(_ result: Result<Int32, any Error>) {
        let continuation = state.withLock { state -> CheckedContinuation<Int32, any Error>? in
            guard let continuation = state.continuation else { return nil }
            state.continuation = nil
            state.phase = .done
            if let watch = state.watch { loop.unwatch(watch, descriptor: descriptor) }
            if let timer = state.timer { loop.cancel(timer) }
            if case .failure = result { close(descriptor) }
            return continuation
        }
        continuation?.resume(with: result)
    }
}

import Errors
import Linux
import Logging
import Runtime
import Synchronization

/// Answers the DHCP clients of machines, each on its tap; one thread for all of them.
public final class AddressResponders: Sendable {
    private let loop: EventLoop
    private let logger: Logger

    public init(logger: Logger) throws {
        loop = try EventLoop(name: "dhcp")
        self.logger = logger
    }

    /// Answers until the responder is stopped or the tap is gone.
    ///
    /// - Parameters:
    ///   - namespace: path of the network namespace that the tap is in.
    ///   - tap: the machine's end, joined with the pod's interface or not.
    public func start(_ offer: AddressOffer, tap: String, in namespace: String) async throws -> AddressResponder {
        let socket = try await NetworkNamespace.run(in: namespace) { try RequestSocket(tap: tap) }
        do {
            return try AddressResponder(offer, socket, loop, logger)
        } catch {
            socket.close()
            throw error
        }
    }
}

/// The server of one interface. ``stop()`` ends it; so does its last reference.
public final class AddressResponder: Sendable {
    private let loop: EventLoop
    private let socket: RequestSocket
    private let state = Mutex(State())

    private struct State {
        /// Nil before it is watched and after its end.
        var watch: EventLoop.Watch?
        var budget = AnswerBudget()
    }

    fileprivate init(_ offer: AddressOffer, _ socket: RequestSocket, _ loop: EventLoop, _ logger: Logger) throws {
        self.loop = loop
        self.socket = socket
        try state.withLock { state in
            state.watch = try loop.watch(socket.descriptor, .readable) { [weak self] _ in self?.answer(offer) }
        }
        logger.debug("answering DHCP", metadata: ["mac": "\(offer.mac)", "address": "\(offer.address)"])
    }

    deinit { stop() }

    public func stop() {
        // Under the lock: the descriptor's number is nobody else's as long as a handler may use it.
        state.withLock { state in
            guard let watch = state.watch else { return }
            state.watch = nil
            loop.unwatch(watch, descriptor: socket.descriptor)
            socket.close()
        }
    }

    private func answer(_ offer: AddressOffer) {
        let isGone = state.withLock { state in
            guard state.watch != nil else { return false }
            // Then others have their turn.
            for _ in 0..<32 {
                do {
                    guard let frame = try socket.read() else { return false }
                    guard let request = DHCPRequest(frame: frame), let answer = DHCPAnswer(to: request, offer),
                        state.budget.take(at: .now)
                    else { continue }
                    socket.send(answer.frame)
                } catch {
                    // ENETDOWN comes once, when the tap is set down or goes.
                    guard state.budget.failed() else { return true }
                }
            }
            return false
        }
        if isGone { stop() }
    }
}

/// How often a client is answered: a burst of 16, and four a second. A client asks a handful of times in its life.
struct AnswerBudget: Sendable {
    private var answers = 16.0
    private var failures = 0
    private var last: ContinuousClock.Instant?

    mutating func take(at now: ContinuousClock.Instant) -> Bool {
        if let last { answers = min(16, answers + (now - last) / .milliseconds(250)) }
        last = now
        guard answers >= 1 else { return false }
        answers -= 1
        return true
    }

    /// False when reading has failed too often for another attempt.
    mutating func failed() -> Bool {
        failures += 1
        return failures < 64
    }
}

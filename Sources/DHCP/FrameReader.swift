import Errors
import Linux
import Synchronization

/// Hands over a socket's frames, as many as its budget has. Above it the socket is not even waited for: what comes fills its queue, and the
/// kernel drops the rest in the time of whoever sends.
final class FrameReader: Sendable {
    private struct State {
        /// Nil before it is watched and after its end.
        var watch: EventLoop.Watch?
        /// Waits for the budget.
        var pause: EventLoop.Timer?
        var budget = FrameBudget.requests
        var failures = 0
        var frames = 0
    }

    /// Reading has failed too often for another attempt.
    private static let mostFailures = 64

    let socket: RequestSocket
    private let loop: EventLoop
    private let state = Mutex(State())

    init(_ socket: RequestSocket, _ loop: EventLoop) {
        (self.socket, self.loop) = (socket, loop)
    }

    deinit { stop() }

    /// Frames that were read so far.
    var frames: Int { state.withLock { $0.frames } }

    func start(_ handler: @escaping @Sendable ([UInt8]) -> Void) throws {
        try state.withLock { state in
            state.watch = try loop.watch(socket.descriptor, .readable) { [weak self] _ in self?.read(handler) }
        }
    }

    func stop() {
        let (watch, pause) = state.withLock { state in
            defer { (state.watch, state.pause) = (nil, nil) }
            return (state.watch, state.pause)
        }
        if let watch { loop.unwatch(watch, descriptor: socket.descriptor) }
        if let pause { loop.cancel(pause) }
    }

    private func read(_ handler: @Sendable ([UInt8]) -> Void) {
        // Then others have their turn.
        for _ in 0..<16 {
            guard state.withLock({ $0.watch != nil }) else { return }
            guard state.withLock({ $0.budget.take(at: .now) }) else { return pause() }
            do {
                guard let frame = try socket.read() else { return }
                state.withLock { $0.frames += 1 }
                handler(frame)
            } catch {
                // ENETDOWN comes once, when the tap is set down or goes.
                let isOver = state.withLock { state in
                    state.failures += 1
                    return state.failures >= Self.mostFailures
                }
                if isOver { return stop() }
            }
        }
    }

    private func pause() {
        state.withLock { state in
            guard let watch = state.watch, state.pause == nil else { return }
            loop.change(watch, descriptor: socket.descriptor, from: .readable, to: [])
            state.pause = loop.schedule(at: state.budget.refillTime(from: .now)) { [weak self] in self?.goOn() }
        }
    }

    private func goOn() {
        state.withLock { state in
            state.pause = nil
            guard let watch = state.watch else { return }
            loop.change(watch, descriptor: socket.descriptor, from: [], to: .readable)
        }
    }
}

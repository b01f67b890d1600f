import CLinux
import Glibc
import Synchronization

extension ProcessIdentity {
    /// One thread waits for all processes.
    private static let loop = Result { try EventLoop(name: "processes") }

    /// Waits until this very process has ended: a descriptor in an event loop, no thread and no polling.
    ///
    /// - Returns: false when the caller is cancelled.
    public func hasEnded() async -> Bool {
        let descriptor = clinux_pidfd_open(pid, 0)
        guard descriptor >= 0, let loop = try? Self.loop.get() else {
            if descriptor >= 0 { close(descriptor) }
            return await polledEnd()
        }
        // The descriptor is pinned to one process; only now does the start time say which.
        guard isAlive else {
            close(descriptor)
            return true
        }
        let wait = DescriptorWait(descriptor, loop)
        return await withTaskCancellationHandler {
            await wait.value()
        } onCancel: {
            wait.finish(false)
        }
    }

    /// For kernels before 5.3, which have no pidfds, and a daemon that is out of descriptors.
    private func polledEnd() async -> Bool {
        while isAlive {
            do { try await Task.sleep(for: .seconds(1)) } catch { return false }
        }
        return true
    }
}

/// Waits once for a descriptor that becomes readable, and closes it.
private final class DescriptorWait: Sendable {
    private enum State {
        case idle
        case waiting(CheckedContinuation<Bool, Never>, EventLoop.Watch)
        case finished
    }

    private let descriptor: Int32
    private let loop: EventLoop
    private let state = Mutex(State.idle)

    init(_ descriptor: Int32, _ loop: EventLoop) {
        self.descriptor = descriptor
        self.loop = loop
    }

    func value() async -> Bool {
        await withCheckedContinuation { continuation in
            let isOver = state.withLock { state in
                // Under the lock: the handler waits until it is known what it is to end.
                guard case .idle = state,
                    let watch = try? loop.watch(descriptor, .readable, handler: { [self] _ in finish(true) })
                else {
                    state = .finished
                    return true
                }
                state = .waiting(continuation, watch)
                return false
            }
            guard isOver else { return }
            close(descriptor)
            continuation.resume(returning: false)
        }
    }

    func finish(_ value: Bool) {
        let waiting: (CheckedContinuation<Bool, Never>, EventLoop.Watch)? = state.withLock { state in
            defer { state = .finished }
            if case .waiting(let continuation, let watch) = state { return (continuation, watch) }
            return nil
        }
        guard let (continuation, watch) = waiting else { return }
        loop.unwatch(watch, descriptor: descriptor)
        close(descriptor)
        continuation.resume(returning: value)
    }
}

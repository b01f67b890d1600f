import CGRPC
import Glibc
import Logging
import Synchronization

/// Something that has operations under way in a completion queue. The queue holds a reference to it
/// for each of them, so the heap the core writes to lives until the last one has completed.
class QueuedObject {
    /// Called on the queue's thread when operation `kind` has completed; must not block.
    func completed(_ kind: Int, ok: Bool) {}

    /// The tag for one operation. `kind` (0 to 7) travels in the low bits, which are zero in an
    /// object's address. Every tag must be given to the core or back to `discard`.
    final func tag(_ kind: Int) -> UnsafeMutableRawPointer {
        Unmanaged<QueuedObject>.passRetained(self).toOpaque() + kind
    }

    /// Gives back a tag the core did not accept.
    static func discard(_ tag: UnsafeMutableRawPointer) {
        _ = take(tag)
    }

    fileprivate static func take(_ tag: UnsafeMutableRawPointer) -> (object: QueuedObject, kind: Int) {
        let kind = Int(bitPattern: tag) & 7
        return (Unmanaged<QueuedObject>.fromOpaque(tag - kind).takeRetainedValue(), kind)
    }
}

/// A completion queue of the C core with the threads that drain it. These threads also do the
/// core's socket reading; they start tasks and resume continuations and do nothing else.
///
/// `@unchecked`: the core's queue is thread-safe and the pointer never changes.
final class CompletionQueue: @unchecked Sendable {
    let pointer: OpaquePointer
    private let onEnd: @Sendable () -> Void
    private let running: Atomic<Int>

    /// - Parameter onEnd: runs on the last thread, after `shutdown` and the last event.
    init(name: String, threads: Int, onEnd: @escaping @Sendable () -> Void) {
        Core.start()
        guard let pointer = grpc_completion_queue_create_for_next(nil) else { fatalError("gRPC: no completion queue") }
        self.pointer = pointer
        self.onEnd = onEnd
        running = Atomic(threads)
        for _ in 0..<threads { startThread(name: name) }
    }

    /// Lets the threads end once everything under way has completed. Nothing may be started afterwards.
    func shutdown() {
        grpc_completion_queue_shutdown(pointer)
    }

    private func startThread(name: String) {
        var thread = pthread_t()
        let context = Unmanaged.passRetained(self).toOpaque()
        let result = pthread_create(
            &thread, nil,
            { context in
                guard let context else { return nil }
                Unmanaged<CompletionQueue>.fromOpaque(context).takeRetainedValue().drain()
                return nil
            }, context)
        // Without its thread no call would ever complete; EAGAIN here means the process is out of threads.
        precondition(result == 0, "gRPC: no thread for the completion queue (errno \(result))")
        cgrpc_name_thread(thread, name)
        pthread_detach(thread)
    }

    private func drain() {
        let forever = gpr_inf_future(GPR_CLOCK_MONOTONIC)
        while true {
            let event = grpc_completion_queue_next(pointer, forever, nil)
            if event.type == GRPC_QUEUE_SHUTDOWN { break }
            guard event.type == GRPC_OP_COMPLETE, let tag = event.tag else { continue }
            let (object, kind) = QueuedObject.take(tag)
            object.completed(kind, ok: event.success != 0)
        }
        if running.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 {
            onEnd()
            grpc_completion_queue_destroy(pointer)
        }
    }
}

/// The C core's process-wide state: started once, never stopped.
enum Core {
    private static let logger = Logger(label: "grpc.core")

    private static let started: Void = {
        // What matters reaches the caller as an error; the core's own account of it is for debugging.
        gpr_set_log_function { entry in
            guard let entry, let message = entry.pointee.message else { return }
            Core.logger.debug("\(String(cString: message))")
        }
        grpc_init()
    }()

    static func start() { _ = started }
}

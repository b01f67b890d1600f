import Errors
import NIOCore

/// Ends a connection on which nothing has moved for so long. Used on the connection's event loop only.
package final class IdleWatch {
    private let limit: TimeAmount
    private var scheduled: Scheduled<Void>?

    package init(_ limit: TimeAmount) { self.limit = limit }

    package func start(_ eventLoop: any EventLoop, _ lastActivity: @escaping () -> NIODeadline, _ expired: @escaping (any Error) -> Void) {
        schedule(eventLoop, at: .now() + limit, lastActivity, expired)
    }

    package func stop() {
        scheduled?.cancel()
        scheduled = nil
    }

    private func schedule(
        _ eventLoop: any EventLoop, at deadline: NIODeadline, _ lastActivity: @escaping () -> NIODeadline,
        _ expired: @escaping (any Error) -> Void
    ) {
        scheduled = eventLoop.assumeIsolated().scheduleTask(deadline: deadline) { [weak self] in
            guard let self else { return }
            let next = lastActivity() + self.limit
            guard next <= .now() else { return self.schedule(eventLoop, at: next, lastActivity, expired) }
            expired(SwiftletError(.deadlineExceeded, "nothing was sent or received for \(self.limit.nanoseconds / 1_000_000_000) s"))
        }
    }
}

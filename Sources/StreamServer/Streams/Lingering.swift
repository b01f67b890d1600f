import NIOCore

/// Closes a connection that has nothing more to say. Closed at once, with bytes of the client unread, the kernel would send a reset, and
/// the client might lose the last that it was sent (RFC 9112, section 9.6).
final class Lingering {
    static let patience = TimeAmount.seconds(5)

    private var hasBegun = false

    func begin(_ channel: any Channel) {
        guard !hasBegun else { return }
        hasBegun = true
        channel.close(mode: .output, promise: nil)
        let timer = channel.eventLoop.scheduleTask(in: Self.patience) { channel.close(promise: nil) }
        channel.closeFuture.whenComplete { _ in timer.cancel() }
    }
}

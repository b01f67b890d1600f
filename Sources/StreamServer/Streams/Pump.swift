import NIOCore
import StreamFrames
import Synchronization

/// Bytes from one side to the other.
enum Pump {
    /// What a client sends, until it ends or fails; what nobody takes is dropped.
    ///
    /// - Returns: whether it did not fail.
    @discardableResult
    static func feed(_ stream: ByteStream?, to sink: (any ByteSink)?) async -> Bool {
        guard let stream else { return true }
        guard let sink else {
            stream.discard()
            return true
        }
        var hasEnded = false
        do {
            while let bytes = try await stream.read() {
                guard bytes.readableBytes > 0 else { continue }
                do {
                    try await sink.write(bytes)
                } catch {
                    stream.discard()
                    return true
                }
            }
            hasEnded = true
        } catch {}
        await sink.close()
        return hasEnded
    }

    /// What the pod's side sends, until it ends. The client's stream ends with it.
    static func drain(_ source: (any ByteSource)?, to stream: ByteStream?) async throws {
        defer { stream?.end() }
        guard let source else { return }
        while let bytes = try await source.read() {
            guard let stream, bytes.readableBytes > 0 else { continue }
            try await stream.write(bytes)
        }
    }
}

/// An end that comes once, whoever calls first, and that nobody's cancellation reaches.
final class SessionEnd: Sendable {
    private let state: Mutex<Task<Void, Never>?> = Mutex(nil)
    private let act: @Sendable () async -> Void

    init(_ act: @escaping @Sendable () async -> Void) { self.act = act }

    func run() async {
        let task = state.withLock { task in
            let begun = task ?? Task { [act] in await act() }
            task = begun
            return begun
        }
        await task.value
    }
}

import NIOCore
import StreamFrames

/// The sizes that a client sends; of those that come faster than they are taken, the last.
struct TerminalSizes: Sendable {
    let all: AsyncStream<TerminalSize>
    private let firsts: AsyncStream<TerminalSize?>
    private let timer: AsyncStream<TerminalSize?>.Continuation

    init(_ stream: ByteStream) {
        let (sizes, continuation) = AsyncStream.makeStream(of: TerminalSize.self, bufferingPolicy: .bufferingNewest(1))
        let (firsts, first) = AsyncStream.makeStream(of: TerminalSize?.self, bufferingPolicy: .bufferingOldest(1))
        let reading = Task {
            var decoder = TerminalSizeDecoder()
            while let bytes = try? await stream.read() {
                guard let size = decoder.take(bytes.readableBytesView) else { continue }
                first.yield(size)
                continuation.yield(size)
            }
            first.finish()
            continuation.finish()
        }
        continuation.onTermination = { _ in reading.cancel() }
        (all, self.firsts, timer) = (sizes, firsts, first)
    }

    /// Asked once. - Returns: nil when none has come in time.
    func first(within patience: Duration) async -> TerminalSize? {
        let timeout = Task { [timer] in
            try? await Task.sleep(for: patience)
            timer.yield(nil)
        }
        defer { timeout.cancel() }
        for await size in firsts { return size }
        return nil
    }
}

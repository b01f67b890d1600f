import AgentClient
import NIOCore
import StreamServer

/// A process's standard input as a session writes it.
struct GuestInput: ByteSink {
    let stream: AgentInputStream

    func write(_ bytes: ByteBuffer) async throws { try await stream.write(Array(bytes.readableBytesView)) }

    func close() async { stream.closeWrite() }
}

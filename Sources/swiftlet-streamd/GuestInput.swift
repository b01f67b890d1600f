import AgentClient
import NIOCore
import StreamServer

/// A process's standard input as a session writes it.
struct GuestInput: ByteSink {
    let stream: AgentInputStream
    /// The client's end of file is the process's. Else the input stays open for others.
    var endsInput = true

    func write(_ bytes: ByteBuffer) async throws { try await stream.write(Array(bytes.readableBytesView)) }

    func close() async {
        if endsInput { stream.closeWrite() }
    }
}

import AgentClient
import NIOCore
import StreamServer

/// A connection to a port of a pod as a session sees it.
struct GuestPort: PortConnection, ByteSink, ByteSource {
    let stream: AgentPortStream

    var input: any ByteSink { self }
    var output: any ByteSource { self }

    func read() async throws -> ByteBuffer? { try await stream.read().map { ByteBuffer(bytes: $0) } }

    func write(_ bytes: ByteBuffer) async throws { try await stream.write(Array(bytes.readableBytesView)) }

    func close() async { stream.closeWrite() }

    func end() async { stream.close() }
}

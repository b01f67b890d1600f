import NIOCore
import StreamFrames

/// Port-forward over WebSocket: two channels for each port, data then errors, and one connection to it. The server's first message on
/// each channel is the port in two bytes, the lower first.
struct PortForwardChannels: Sendable {
    let request: PortForwardRequest
    let backend: any StreamBackend

    /// Ends when all connections have.
    func run(_ channels: [ByteStream]) async throws {
        for (index, stream) in channels.enumerated() { try await stream.write(Self.prefix(request.ports[index / 2])) }
        await withDiscardingTaskGroup { group in
            for (index, port) in request.ports.enumerated() {
                group.addTask {
                    await PortForward(request: request, backend: backend, isHalfCloseTold: false).run(
                        port, data: channels[index * 2], error: channels[index * 2 + 1])
                }
            }
        }
    }

    static func prefix(_ port: UInt16) -> ByteBuffer { ByteBuffer(integer: port, endianness: .little) }
}

import Errors
import NIOCore
import StreamFrames

/// One connection to a port of a pod.
struct PortForward: Sendable {
    let request: PortForwardRequest
    let backend: any StreamBackend
    /// Whether the client is told that the pod's side sends no more. Where it cannot be, that ends the connection.
    let isHalfCloseTold: Bool

    /// Ends when both directions have. What fails is told on the error stream: it is this connection's failure, not the session's.
    func run(_ port: UInt16, data: ByteStream, error: ByteStream) async {
        defer {
            error.end()
            data.end()
            error.release()
            data.release()
        }
        error.discard()
        let connection: any PortConnection
        do {
            connection = try await backend.connect(request, port: port)
        } catch let failure {
            return await tell(failure, port, error)
        }
        let end = SessionEnd { await connection.end() }
        await withTaskCancellationHandler {
            await carry(port, connection, data, error, end)
            await end.run()
        } onCancel: {
            Task { await end.run() }
        }
    }

    private func carry(
        _ port: UInt16, _ connection: any PortConnection, _ data: ByteStream, _ error: ByteStream, _ end: SessionEnd
    ) async {
        await withTaskGroup { group in
            group.addTask {
                // A client's stream that was reset is not one that only sends no more.
                if await !Pump.feed(data, to: connection.input) { await end.run() }
            }
            do {
                try await Pump.drain(connection.output, to: data)
            } catch let failure {
                await tell(failure, port, error)
                group.cancelAll()
                // A write that waits for the pod is not cancelled.
                await end.run()
            }
            // kubectl waits for its end before it closes the local connection, and only then ends what it sends.
            error.end()
            if !isHalfCloseTold {
                group.cancelAll()
                await end.run()
            }
        }
    }

    private func tell(_ failure: any Error, _ port: UInt16, _ error: ByteStream) async {
        let text = SwiftletError.wrap(failure, "forward to port \(port) of pod sandbox \(request.sandboxID)").description
        try? await error.write(ByteBuffer(string: text))
    }
}

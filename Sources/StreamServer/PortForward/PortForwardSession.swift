import Errors
import NIOCore
import StreamFrames

/// Port-forward over SPDY: for each connection the client opens an error stream and a data stream, with the same request and port.
struct PortForwardSession: Sendable {
    let request: PortForwardRequest
    let backend: any StreamBackend
    let creationTimeout: Duration
    /// Streams that may wait for their other half.
    let maximumPairs: Int

    /// What a stream with these headers is refused for; nil takes it.
    static func refusal(_ headers: [String: String]) -> String? {
        guard let type = headers["streamtype"], type == "error" || type == "data" else {
            return "the stream's type is neither error nor data"
        }
        guard port(headers) != nil else { return "the stream's port is not within 1 and 65535" }
        return nil
    }

    static func port(_ headers: [String: String]) -> UInt16? {
        guard let text = headers["port"], text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = UInt16(text), port > 0 else {
            return nil
        }
        return port
    }

    /// Which streams belong together. A client from before request ids opens the data stream right behind the error stream.
    static func pairID(_ stream: ByteStream) -> String {
        if let id = stream.headers["requestid"] { return id }
        return "#\(stream.headers["streamtype"] == "error" ? stream.id : stream.id &- 2)"
    }

    private struct Half {
        let stream: ByteStream
        let timer: Task<Void, Never>
    }

    /// Ends with the client's connection.
    func run(_ opened: AsyncStream<ByteStream>) async throws {
        var halves: [String: Half] = [:]
        try await withThrowingDiscardingTaskGroup { group in
            defer { for half in halves.values { half.timer.cancel() } }
            for await stream in opened {
                let id = Self.pairID(stream)
                let type = stream.headers["streamtype"]
                guard let half = halves.removeValue(forKey: id) else {
                    guard halves.count < maximumPairs else {
                        throw SwiftletError(.resourceExhausted, "\(maximumPairs) streams wait for their other half")
                    }
                    halves[id] = Half(stream: stream, timer: timer(for: stream))
                    continue
                }
                half.timer.cancel()
                guard half.stream.headers["streamtype"] != type, Self.port(half.stream.headers) == Self.port(stream.headers),
                    let port = Self.port(stream.headers)
                else {
                    half.stream.release()
                    stream.release()
                    continue
                }
                let (data, error) = type == "data" ? (stream, half.stream) : (half.stream, stream)
                group.addTask {
                    await PortForward(request: request, backend: backend, isHalfCloseTold: true).run(port, data: data, error: error)
                }
            }
        }
    }

    private func timer(for stream: ByteStream) -> Task<Void, Never> {
        Task {
            guard (try? await Task.sleep(for: creationTimeout)) != nil else { return }
            if stream.headers["streamtype"] == "error" {
                try? await stream.write(ByteBuffer(string: "timed out waiting for the data stream"))
                stream.end()
            }
            stream.release()
        }
    }
}

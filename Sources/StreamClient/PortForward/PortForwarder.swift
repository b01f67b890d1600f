import Errors
import NIOCore
import StreamFrames
import Synchronization

/// Connections into a pod over one session, `portforward.k8s.io`: for each an error stream and a data stream.
package final class PortForwarder: Sendable {
    package static let version = "portforward.k8s.io"
    /// Of what the error stream says.
    private static let maximumText = 4096
    /// How long the pod's side may take to say what has failed, once it has.
    private static let patience = Duration.seconds(1)

    package let session: SPDYSession
    private let requests = Atomic(0)

    package init(_ session: SPDYSession) { self.session = session }

    /// Joins all connections that come to the listeners to ports of the pod, until the session ends.
    ///
    /// Cancelled, it ends the session, and with it the connections.
    /// - Parameters:
    ///   - opened: told of each connection, with its listener and the pod's port.
    ///   - failed: told of each that fails while the session goes on.
    /// - Returns: what has ended the session.
    package func run(
        _ ports: [(listener: PortListener, remote: UInt16)], opened: @escaping @Sendable (PortListener, UInt16) -> Void,
        failed: @escaping @Sendable (PortListener, UInt16, any Error) -> Void
    ) async -> any Error {
        await withTaskGroup(of: (any Error)?.self) { group in
            for (listener, remote) in ports {
                group.addTask {
                    await withDiscardingTaskGroup { connections in
                        for await local in listener.connections {
                            opened(listener, remote)
                            connections.addTask {
                                do {
                                    try await self.forward(local, to: remote)
                                } catch {
                                    guard !Task.isCancelled, await self.session.failed() == nil else { return }
                                    failed(listener, remote, error)
                                }
                            }
                        }
                    }
                    return nil
                }
            }
            group.addTask { await self.session.ended() }
            defer { group.cancelAll() }
            for await end in group {
                if let end { return end }
            }
            return CancellationError()
        }
    }

    /// Joins a local connection to a port of the pod, until both directions have ended; each may end before the other. Whatever comes of
    /// it, the local connection is ended.
    ///
    /// - Throws: what the pod's side says, or what has failed on the way. A local peer that has gone is no failure.
    package func forward(_ local: ByteStream, to port: UInt16) async throws {
        do {
            try await join(local, to: port)
            local.release()
        } catch {
            local.reset()
            throw error
        }
    }

    private func join(_ local: ByteStream, to port: UInt16) async throws {
        let request = requests.add(1, ordering: .relaxed).newValue
        func headers(_ type: String) -> [(name: String, value: String)] {
            [("streamType", type), ("port", "\(port)"), ("requestID", "\(request)")]
        }
        // The kubelet waits for both in this order.
        let error = try await session.open(headers("error"))
        defer { error.reset() }
        error.end()
        let data = try await session.open(headers("data"))
        let outcome = await carry(local, data, error)
        if case .complete = outcome { data.release() } else { data.reset() }
        try Task.checkCancellation()
        switch outcome {
        case .complete: break
        case .localFailed: local.reset()
        case .podFailed(let error): throw error
        case .said(let text): throw SwiftletError(.unavailable, oneLine(text))
        }
    }

    /// What a stream says, to its end or as far as it is there.
    private static func text(_ stream: ByteStream) async -> String {
        var bytes = ByteBuffer()
        do {
            for try await var part in stream {
                guard bytes.readableBytes < maximumText else { continue }
                if let part = part.readSlice(length: min(part.readableBytes, maximumText - bytes.readableBytes)) {
                    bytes.writeImmutableBuffer(part)
                }
            }
        } catch {}
        return String(buffer: bytes)
    }

    // MARK: One connection's bytes

    private enum Side { case local, pod }

    private enum Event {
        case directionEnded
        case failed(Side, any Error)
        /// The error stream has ended.
        case said(String)
        case expired, cancelled
    }

    private enum Outcome {
        case complete
        case localFailed
        case podFailed(any Error)
        case said(String)
    }

    private func carry(_ local: ByteStream, _ data: ByteStream, _ error: ByteStream) async -> Outcome {
        await withTaskGroup(of: Event.self) { group in
            defer { group.cancelAll() }
            group.addTask { await Self.pump(local, .local, to: data, .pod) }
            group.addTask { await Self.pump(data, .pod, to: local, .local) }
            group.addTask { .said(await Self.text(error)) }
            // A direction that has ended does not learn of it otherwise.
            for (stream, side) in [(local, Side.local), (data, .pod)] {
                group.addTask { await stream.waitForFailure().map { .failed(side, $0) } ?? .cancelled }
            }
            var (open, failure, hasSaid): (Int, (any Error)?, Bool) = (2, nil, false)
            for await event in group {
                switch event {
                case .directionEnded: open -= 1
                case .failed(.local, _): return .localFailed
                case .failed(.pod, let error): if open > 0 { failure = failure ?? error }
                case .said(let text) where !text.isEmpty: return .said(text)
                case .said, .expired: hasSaid = true
                case .cancelled: continue
                }
                guard open == 0 || failure != nil else { continue }
                if hasSaid { return failure.map { .podFailed($0) } ?? .complete }
                // Why it has failed is on its way.
                group.addTask { (try? await Task.sleep(for: Self.patience)) == nil ? .cancelled : .expired }
            }
            return .localFailed
        }
    }

    private static func pump(_ source: ByteStream, _ sourceSide: Side, to sink: ByteStream, _ sinkSide: Side) async -> Event {
        do {
            for try await bytes in source where bytes.readableBytes > 0 {
                do { try await sink.write(bytes) } catch { return .failed(sinkSide, error) }
            }
        } catch {
            return .failed(sourceSide, error)
        }
        sink.end()
        return .directionEnded
    }
}

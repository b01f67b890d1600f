import Errors

/// The server's half of a ttrpc connection without its I/O: which frames are calls, and how many run at once.
public struct TTRPCRequests: Sendable {
    /// What to do with a frame.
    public enum Action: Sendable {
        /// Run it and answer on this stream; report that with ``finish(_:)``.
        case run(stream: UInt32, TTRPCRequest)
        /// Answer with this failure; nothing was begun.
        case refuse(stream: UInt32, SwiftletError)
    }

    private var running: Set<UInt32> = []
    private var lastStream: UInt32 = 0
    private let limit: Int

    /// - Parameter limit: calls that may run at once; more are refused with `.resourceExhausted`.
    public init(limit: Int) { self.limit = limit }

    /// - Throws: `.invalidArgument` for a frame that breaks the protocol. The connection has to be closed.
    public mutating func receive(_ frame: TTRPCFrame) throws(SwiftletError) -> Action {
        guard frame.kind == .request, frame.stream % 2 == 1, frame.stream > lastStream else {
            throw SwiftletError(.invalidArgument, "ttrpc: unexpected frame of kind \(frame.kind.rawValue) on stream \(frame.stream)")
        }
        lastStream = frame.stream
        let request = try TTRPCRequest(encoded: frame.payload)
        guard running.count < limit else {
            return .refuse(stream: frame.stream, SwiftletError(.resourceExhausted, "more than \(limit) calls at once on one connection"))
        }
        running.insert(frame.stream)
        return .run(stream: frame.stream, request)
    }

    public mutating func finish(_ stream: UInt32) { running.remove(stream) }
}

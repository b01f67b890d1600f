import Errors

/// The client's half of a ttrpc connection without its I/O: which calls wait for an answer.
///
/// `Call` is whatever the caller keeps for one, such as a continuation. Every call put in comes out exactly once.
public struct TTRPCCalls<Call> {
    private var waiting: [UInt32: Call] = [:]
    private var nextStream: UInt32 = 1
    private var closed: SwiftletError?

    public init() {}

    public var count: Int { waiting.count }

    /// Enters a call and gives its stream id.
    ///
    /// - Throws: why the connection was closed; `.unavailable` when its 2^31 ids are used up.
    public mutating func begin(_ call: Call) throws(SwiftletError) -> UInt32 {
        if let closed { throw closed }
        guard nextStream < UInt32.max - 2 else {
            throw SwiftletError(.unavailable, "the ttrpc connection has used all its stream ids: connect again")
        }
        let stream = nextStream
        nextStream += 2
        waiting[stream] = call
        return stream
    }

    /// Takes a call out that is no longer waited for; nil when it was answered meanwhile.
    public mutating func abandon(_ stream: UInt32) -> Call? { waiting.removeValue(forKey: stream) }

    /// Changes what is kept for a call; false when it no longer waits.
    public mutating func update(_ stream: UInt32, _ change: (inout Call) -> Void) -> Bool {
        guard var call = waiting.removeValue(forKey: stream) else { return false }
        change(&call)
        waiting[stream] = call
        return true
    }

    /// The call that a frame answers. nil for an answer that came after its call was abandoned.
    ///
    /// - Throws: `.dataLoss` for frames that a server never sends to this client.
    public mutating func receive(_ frame: TTRPCFrame) throws(SwiftletError) -> (call: Call, response: TTRPCResponse)? {
        guard frame.kind == .response, frame.stream % 2 == 1, frame.stream < nextStream else {
            throw SwiftletError(.dataLoss, "ttrpc: unexpected frame of kind \(frame.kind.rawValue) on stream \(frame.stream)")
        }
        guard waiting[frame.stream] != nil else { return nil }
        let response = try TTRPCResponse(encoded: frame.payload)
        guard let call = waiting.removeValue(forKey: frame.stream) else { return nil }
        return (call, response)
    }

    /// Ends the connection: later calls fail with `reason`, and those that wait are handed back.
    public mutating func close(_ reason: SwiftletError) -> [Call] {
        if closed == nil { closed = reason }
        defer { waiting = [:] }
        return Array(waiting.values)
    }
}

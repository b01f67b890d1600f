import Errors
import Linux

/// One message of containerd's ttrpc protocol (github.com/containerd/ttrpc, PROTOCOL.md): a 10-byte header, then the payload.
public struct TTRPCFrame: Sendable, Equatable {
    /// What the payload is.
    public struct Kind: RawRepresentable, Sendable, Equatable {
        public let rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        public static let request = Kind(rawValue: 1)
        public static let response = Kind(rawValue: 2)
        public static let data = Kind(rawValue: 3)
    }

    /// Bytes of length, stream id, kind and flags.
    public static let headerLength = 10
    /// ttrpc's limit for a payload, in bytes.
    public static let maximumPayload = 4 << 20

    /// Odd for calls of the client, which are the only ones here.
    public var stream: UInt32
    public var kind: Kind
    public var flags: UInt8
    public var payload: [UInt8]

    public init(stream: UInt32, kind: Kind, flags: UInt8 = 0, payload: [UInt8]) {
        self.stream = stream
        self.kind = kind
        self.flags = flags
        self.payload = payload
    }

    /// The bytes on the wire.
    ///
    /// - Throws: `.resourceExhausted` when the payload is larger than ``maximumPayload``.
    public func encoded() throws(SwiftletError) -> [UInt8] {
        guard payload.count <= Self.maximumPayload else {
            throw SwiftletError(.resourceExhausted, "message of \(payload.count) bytes is larger than ttrpc's \(Self.maximumPayload)")
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Self.headerLength + payload.count)
        bytes.append(bigEndian: UInt32(payload.count))
        bytes.append(bigEndian: stream)
        bytes.append(kind.rawValue)
        bytes.append(flags)
        bytes.append(contentsOf: payload)
        return bytes
    }
}

/// Cuts a byte stream into ttrpc frames. Memory is bounded by one frame and what was appended since the last ``next()``.
public struct TTRPCFrameDecoder: Sendable {
    private var input = ByteQueue()

    public init() {}

    /// Takes bytes as they came from the connection.
    public mutating func append(_ bytes: some Collection<UInt8>) { input.append(bytes) }

    /// The next whole frame; nil until more bytes come.
    ///
    /// - Throws: `.resourceExhausted` for a length beyond ttrpc's limit. The connection cannot be used any more.
    public mutating func next() throws(SwiftletError) -> TTRPCFrame? {
        guard input.count >= TTRPCFrame.headerLength else { return nil }
        let length = Int(input.bigEndian32(at: 0))
        guard length <= TTRPCFrame.maximumPayload else {
            throw SwiftletError(.resourceExhausted, "ttrpc frame announces \(length) bytes, more than \(TTRPCFrame.maximumPayload)")
        }
        guard input.count >= TTRPCFrame.headerLength + length else { return nil }
        let stream = input.bigEndian32(at: 4)
        let kind = TTRPCFrame.Kind(rawValue: input[8])
        let flags = input[9]
        input.drop(TTRPCFrame.headerLength)
        return TTRPCFrame(stream: stream, kind: kind, flags: flags, payload: input.take(length))
    }
}

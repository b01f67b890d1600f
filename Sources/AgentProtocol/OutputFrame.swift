import Errors
import Linux

/// Which of a process's outputs bytes come from.
public enum OutputSource: UInt8, Sendable, Hashable, CaseIterable {
    case stdout = 1
    case stderr = 2
}

/// A frame of an output stream, guest to host. The shape is given in agent.proto.
public struct OutputFrame: Sendable, Equatable {
    public static let headerLength = 8
    /// Bytes of output in one frame at most.
    public static let maximumPayload = 65536

    public var source: OutputSource
    /// No byte of this source follows.
    public var end: Bool
    public var payload: [UInt8]

    public init(source: OutputSource, end: Bool = false, payload: [UInt8]) {
        self.source = source
        self.end = end
        self.payload = payload
    }

    /// What comes before the payload on the wire.
    ///
    /// - Precondition: the payload is not longer than ``maximumPayload``.
    public var header: [UInt8] {
        precondition(payload.count <= Self.maximumPayload)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Self.headerLength)
        bytes += [source.rawValue, end ? 1 : 0, 0, 0]
        bytes.append(bigEndian: UInt32(payload.count))
        return bytes
    }

    /// The bytes on the wire.
    public var encoded: [UInt8] { header + payload }
}

/// Cuts a byte stream into output frames. Memory is bounded by one frame and what was appended since the last ``next()``.
public struct OutputFrameDecoder: Sendable {
    private var input = ByteQueue()

    public init() {}

    /// Whether the bytes so far end between two frames.
    public var isAtBoundary: Bool { input.isEmpty }

    public mutating func append(_ bytes: some Collection<UInt8>) { input.append(bytes) }

    /// The next whole frame; nil until more bytes come.
    ///
    /// - Throws: `.dataLoss` for bytes that are no frame. The connection cannot be used any more.
    public mutating func next() throws(SwiftletError) -> OutputFrame? {
        guard input.count >= OutputFrame.headerLength else { return nil }
        guard let source = OutputSource(rawValue: input[0]), input[1] <= 1, input[2] == 0, input[3] == 0 else {
            throw SwiftletError(.dataLoss, "output stream: bytes \(input[0]) \(input[1]) \(input[2]) \(input[3]) start no frame")
        }
        let length = Int(input.bigEndian32(at: 4))
        guard length <= OutputFrame.maximumPayload else {
            throw SwiftletError(.dataLoss, "output stream: frame announces \(length) bytes, more than \(OutputFrame.maximumPayload)")
        }
        guard input.count >= OutputFrame.headerLength + length else { return nil }
        let end = input[1] == 1
        input.drop(OutputFrame.headerLength)
        return OutputFrame(source: source, end: end, payload: input.take(length))
    }
}

/// How much of each source the host has received in all, host to guest.
public struct OutputAcknowledgement: Sendable, Equatable {
    public static let length = 16

    public var stdout: UInt64
    public var stderr: UInt64

    public init(stdout: UInt64, stderr: UInt64) {
        self.stdout = stdout
        self.stderr = stderr
    }

    public var encoded: [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: stdout)
        bytes.append(bigEndian: stderr)
        return bytes
    }

    /// Takes one acknowledgement off the front of `input`; nil until it is whole.
    public init?(from input: inout ByteQueue) {
        guard input.count >= Self.length else { return nil }
        let bytes = input.take(Self.length)
        self.init(stdout: bytes[..<8].bigEndianInteger(), stderr: bytes[8...].bigEndianInteger())
    }
}

import CLinux
import Errors
import Glibc

/// Requests of the vhost-user protocol that a vsock back end can meet (QEMU, docs/interop/vhost-user.rst).
enum VhostUserRequest: UInt32 {
    case getFeatures = 1
    case setFeatures = 2
    case setOwner = 3
    case resetOwner = 4
    case setMemoryTable = 5
    case setRingSize = 8
    case setRingAddresses = 9
    case setRingBase = 10
    case getRingBase = 11
    case setRingKick = 12
    case setRingCall = 13
    case setRingError = 14
    case getProtocolFeatures = 15
    case setProtocolFeatures = 16
    case setRingEnable = 18
    case getConfiguration = 24
    case setConfiguration = 25
    case resetDevice = 34
    case setStatus = 39
}

/// Bits of GET_FEATURES and GET_PROTOCOL_FEATURES that this back end offers.
enum VhostUserFeatures {
    static let version1: UInt64 = 1 << 32
    static let protocolFeatures: UInt64 = 1 << 30
    static let offered = version1 | protocolFeatures

    static let replyAcknowledge: UInt64 = 1 << 3
    static let configuration: UInt64 = 1 << 9
    static let offeredProtocol = replyAcknowledge | configuration
}

/// One message from QEMU. Whoever takes a descriptor out of it closes it.
struct VhostUserMessage {
    var request: UInt32
    var needsReply: Bool
    var payload: [UInt8]
    var descriptors: [Int32]

    /// A little-endian integer in the payload, or nil past its end.
    func integer<T: FixedWidthInteger>(at offset: Int, as type: T.Type = T.self) -> T? {
        guard offset >= 0, offset + MemoryLayout<T>.size <= payload.count else { return nil }
        return payload.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
    }
}

/// The connection to QEMU: message framing and descriptor passing.
final class VhostUserChannel {
    /// The largest payload used is the memory table: 8 + 8 * 32 bytes.
    static let maximumPayload = 1024
    private static let headerSize = 12
    private static let version: UInt32 = 1
    private static let versionMask: UInt32 = 3
    private static let replyFlag: UInt32 = 4
    private static let needReplyFlag: UInt32 = 8

    let descriptor: Int32
    private var buffer = [UInt8](repeating: 0, count: VhostUserChannel.headerSize + VhostUserChannel.maximumPayload)
    private var filled = 0
    private var passed: [Int32] = []

    /// Owns `descriptor`, which must be non-blocking.
    init(descriptor: Int32) {
        self.descriptor = descriptor
    }

    deinit {
        for fd in passed { close(fd) }
        close(descriptor)
    }

    enum Received {
        case message(VhostUserMessage)
        case nothingYet
        case closed
    }

    /// Reads one message as far as it has come.
    /// - Throws: `invalidArgument` for bytes that are not vhost-user.
    func receive() throws(SwiftletError) -> Received {
        while true {
            var wanted = Self.headerSize
            if filled >= Self.headerSize {
                let size = field(8)
                guard field(4) & Self.versionMask == Self.version, size <= UInt32(Self.maximumPayload) else {
                    throw SwiftletError(.invalidArgument, "QEMU sent no vhost-user message: flags \(field(4)), size \(size)")
                }
                wanted += Int(size)
                if filled == wanted { return .message(take()) }
            }
            guard try read(upTo: wanted) else { return .nothingYet }
            if filled < 0 { return .closed }
        }
    }

    /// Sends a reply to `request`.
    func reply(to request: UInt32, _ payload: [UInt8]) throws(SwiftletError) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Self.headerSize + payload.count)
        for value in [request, Self.version | Self.replyFlag, UInt32(payload.count)] { bytes.append(littleEndian: value) }
        bytes += payload
        // QEMU waits for each reply, so that the socket always has room for these few bytes.
        guard clinux_send(descriptor, bytes, bytes.count) == bytes.count else {
            throw SwiftletError(.unavailable, "cannot answer QEMU: \(systemErrorText())")
        }
    }

    /// - Returns: false when nothing has come; `filled` is -1 at the end of the stream.
    private func read(upTo wanted: Int) throws(SwiftletError) -> Bool {
        var fds = [Int32](repeating: -1, count: GuestMemory.maximumRegions)
        var count: Int32 = 0
        let result = buffer.withUnsafeMutableBytes { bytes in
            clinux_receive_with_fds(
                descriptor, bytes.baseAddress.map { $0 + filled }, wanted - filled, &fds, Int32(fds.count), &count)
        }
        let failure = errno
        for fd in fds.prefix(Int(count)) {
            if passed.count < GuestMemory.maximumRegions { passed.append(fd) } else { close(fd) }
        }
        if result > 0 {
            filled += result
            return true
        }
        if result < 0, failure == EAGAIN || failure == EINTR { return false }
        if result < 0, failure != ECONNRESET {
            throw SwiftletError(.unavailable, "cannot read from QEMU: \(systemErrorText(failure))")
        }
        filled = -1
        return true
    }

    private func take() -> VhostUserMessage {
        let message = VhostUserMessage(
            request: field(0), needsReply: field(4) & Self.needReplyFlag != 0,
            payload: Array(buffer[Self.headerSize..<filled]), descriptors: passed)
        filled = 0
        passed = []
        return message
    }

    private func field(_ offset: Int) -> UInt32 {
        buffer.withUnsafeBytes { UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }
    }
}

extension [UInt8] {
    mutating func append<T: FixedWidthInteger>(littleEndian value: T) {
        Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
    }
}

/// What a packet asks for (virtio 1.2, section 5.10.6).
enum VsockOperation {
    static let request: UInt16 = 1
    static let response: UInt16 = 2
    static let reset: UInt16 = 3
    static let shutdown: UInt16 = 4
    static let data: UInt16 = 5
    static let creditUpdate: UInt16 = 6
    static let creditRequest: UInt16 = 7
}

/// The directions a SHUTDOWN packet ends, seen from its sender: it will receive or send no more.
struct VsockShutdown: OptionSet, Equatable {
    let rawValue: UInt32
    static let receive = VsockShutdown(rawValue: 1)
    static let send = VsockShutdown(rawValue: 2)
    static let both: VsockShutdown = [.receive, .send]
}

/// The packet header: 44 bytes, little-endian, no padding (virtio 1.2, section 5.10.6).
struct VsockHeader: Equatable {
    static let size = 44
    /// The host's context id as the guest addresses it.
    static let hostCID: UInt64 = 2
    static let streamType: UInt16 = 1

    var sourceCID: UInt64
    var destinationCID: UInt64
    var sourcePort: UInt32
    var destinationPort: UInt32
    var length: UInt32 = 0
    var type: UInt16 = VsockHeader.streamType
    var operation: UInt16
    var flags: UInt32 = 0
    /// Bytes the sender is ready to hold for this connection.
    var bufferAllocation: UInt32 = 0
    /// Bytes the sender has taken out of that buffer since the connection began, modulo 2^32.
    var forwardCount: UInt32 = 0

    /// - Parameter bytes: at least `size` bytes.
    func store(to bytes: UnsafeMutableRawPointer) {
        bytes.storeBytes(of: sourceCID.littleEndian, toByteOffset: 0, as: UInt64.self)
        bytes.storeBytes(of: destinationCID.littleEndian, toByteOffset: 8, as: UInt64.self)
        bytes.storeBytes(of: sourcePort.littleEndian, toByteOffset: 16, as: UInt32.self)
        bytes.storeBytes(of: destinationPort.littleEndian, toByteOffset: 20, as: UInt32.self)
        bytes.storeBytes(of: length.littleEndian, toByteOffset: 24, as: UInt32.self)
        bytes.storeBytes(of: type.littleEndian, toByteOffset: 28, as: UInt16.self)
        bytes.storeBytes(of: operation.littleEndian, toByteOffset: 30, as: UInt16.self)
        bytes.storeBytes(of: flags.littleEndian, toByteOffset: 32, as: UInt32.self)
        bytes.storeBytes(of: bufferAllocation.littleEndian, toByteOffset: 36, as: UInt32.self)
        bytes.storeBytes(of: forwardCount.littleEndian, toByteOffset: 40, as: UInt32.self)
    }
}

extension VsockHeader {
    /// - Parameter bytes: at least `size` bytes, private to the caller (never guest memory, which may change).
    init(loadingFrom bytes: UnsafeRawPointer) {
        self.init(
            sourceCID: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
            destinationCID: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
            sourcePort: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt32.self)),
            destinationPort: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 20, as: UInt32.self)),
            length: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 24, as: UInt32.self)),
            type: UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 28, as: UInt16.self)),
            operation: UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 30, as: UInt16.self)),
            flags: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 32, as: UInt32.self)),
            bufferAllocation: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 36, as: UInt32.self)),
            forwardCount: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 40, as: UInt32.self)))
    }
}

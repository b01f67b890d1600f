import NIOCore

/// Bytes to frames. A data frame's bytes are handed on as they come, as slices of what was received; a control frame is held until it
/// is whole, up to ``maximumControlPayload``.
package struct SPDYFrameDecoder {
    /// Bytes of a control frame behind its header: kubectl's are below 200.
    package static let maximumControlPayload = 16 << 10

    private enum State {
        case header
        case control(kind: UInt16, flags: UInt8, length: Int)
        case data(id: UInt32, left: Int, isLast: Bool)
        case ignored(left: Int)
    }

    private var state = State.header
    private var received = ByteBuffer()
    /// The beginning of what `received` has not yet in whole.
    private var partial = ByteBuffer()

    package init() {}

    package mutating func append(_ bytes: ByteBuffer) {
        if received.readableBytes == 0 { received = bytes } else { received.writeImmutableBuffer(bytes) }
    }

    /// - Returns: nil when more bytes are needed.
    package mutating func next() throws(SPDYConnectionError) -> SPDYFrame? {
        while true {
            switch state {
            case .header:
                guard var header = take(SPDYFrame.headerSize), let (word, second) = header.readMultipleIntegers(as: (UInt32, UInt32).self)
                else { return nil }
                let (flags, length) = (UInt8(second >> 24), Int(second & 0xFF_FFFF))
                if word & 0x8000_0000 == 0 {
                    state = .data(id: word, left: length, isLast: flags & SPDYFrame.flagFin != 0)
                    // A frame without bytes can still be the last.
                    if length == 0, let frame = dataFrame() { return frame }
                } else {
                    state = try control(version: UInt16(word >> 16 & 0x7FFF), kind: UInt16(word & 0xFFFF), flags: flags, length: length)
                }
            case .control(let kind, let flags, let length):
                guard let payload = take(length) else { return nil }
                state = .header
                if let frame = try SPDYFrame(kind: kind, flags: flags, payload: payload) { return frame }
            case .data:
                guard let frame = dataFrame() else { return nil }
                return frame
            case .ignored(let left):
                let count = min(left, received.readableBytes)
                received.moveReaderIndex(forwardBy: count)
                state = count == left ? .header : .ignored(left: left - count)
                if count < left { return nil }
            }
        }
    }

    private func control(version: UInt16, kind: UInt16, flags: UInt8, length: Int) throws(SPDYConnectionError) -> State {
        guard version == SPDYFrame.version else { throw SPDYConnectionError("control frame is of SPDY version \(version), not 3") }
        guard SPDYFrame.Kind(rawValue: kind) != nil else { return .ignored(left: length) }
        guard length <= Self.maximumControlPayload else {
            throw SPDYConnectionError("control frame of type \(kind) has \(length) bytes; at most \(Self.maximumControlPayload) are taken")
        }
        return .control(kind: kind, flags: flags, length: length)
    }

    private mutating func dataFrame() -> SPDYFrame? {
        guard case .data(let id, let left, let isLast) = state, let bytes = received.readSlice(length: min(left, received.readableBytes)),
            left == 0 || bytes.readableBytes > 0
        else { return nil }
        let rest = left - bytes.readableBytes
        state = rest == 0 ? .header : .data(id: id, left: rest, isLast: isLast)
        return .data(id: id, bytes: bytes, isLast: isLast && rest == 0)
    }

    /// `length` bytes, once they are there.
    private mutating func take(_ length: Int) -> ByteBuffer? {
        if partial.readableBytes == 0, let whole = received.readSlice(length: length) { return whole }
        if var piece = received.readSlice(length: min(length - partial.readableBytes, received.readableBytes)) {
            partial.writeBuffer(&piece)
        }
        guard partial.readableBytes == length else { return nil }
        defer { partial = ByteBuffer() }
        return partial
    }
}

import NIOCore

/// A frame of SPDY/3.1 (draft-mbelshe-httpbis-spdy-00, section 2.6), as it came: header blocks are still compressed.
package enum SPDYFrame: Equatable {
    case synStream(id: UInt32, block: ByteBuffer, isLast: Bool)
    case synReply(id: UInt32, block: ByteBuffer, isLast: Bool)
    case reset(id: UInt32, status: UInt32)
    case settings([Setting])
    case ping(UInt32)
    case goAway(lastID: UInt32, status: UInt32)
    case headers(id: UInt32, block: ByteBuffer, isLast: Bool)
    case windowUpdate(id: UInt32, delta: UInt32)
    /// What has come of a data frame: a large one arrives as several.
    case data(id: UInt32, bytes: ByteBuffer, isLast: Bool)

    package struct Setting: Equatable {
        package static let initialWindowSize: UInt32 = 7

        package var id: UInt32
        package var value: UInt32

        package init(id: UInt32, value: UInt32) { (self.id, self.value) = (id, value) }
    }

    package enum Kind: UInt16 {
        case synStream = 1
        case synReply = 2
        case reset = 3
        case settings = 4
        case ping = 6
        case goAway = 7
        case headers = 8
        case windowUpdate = 9
    }

    package static let headerSize = 8
    /// Bit 0 of the flags of SYN_STREAM, SYN_REPLY, HEADERS and data.
    package static let flagFin: UInt8 = 1
    package static let version: UInt16 = 3
}

/// RST_STREAM's status codes (section 2.6.3).
package enum SPDYStatus {
    package static let protocolError: UInt32 = 1
    package static let invalidStream: UInt32 = 2
    package static let refusedStream: UInt32 = 3
    package static let cancel: UInt32 = 5
    package static let flowControlError: UInt32 = 7
    package static let streamInUse: UInt32 = 8
    package static let streamAlreadyClosed: UInt32 = 9

    /// What a number that came means, for messages.
    package static func name(_ status: UInt32) -> String {
        let names = [
            protocolError: "protocol error", invalidStream: "invalid stream", refusedStream: "refused stream", 4: "unsupported version",
            cancel: "cancelled", 6: "internal error", flowControlError: "flow control error", streamInUse: "stream in use",
            streamAlreadyClosed: "stream already closed",
        ]
        return names[status] ?? "status \(status)"
    }
}

/// A fault that ends the whole connection: behind it nobody knows where a frame begins, or what the compressor's state is.
package struct SPDYConnectionError: Error, Equatable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}

extension SPDYFrame {
    /// - Parameter payload: what follows a control frame's header, in whole.
    /// - Returns: nil for a type that the draft does not know, which is ignored.
    /// - Throws: where the length is none that the type can have.
    package init?(kind: UInt16, flags: UInt8, payload: ByteBuffer) throws(SPDYConnectionError) {
        guard let kind = Kind(rawValue: kind) else { return nil }
        var payload = payload
        func number() throws(SPDYConnectionError) -> UInt32 {
            guard let number = payload.readInteger(as: UInt32.self) else { throw SPDYConnectionError("\(kind) frame is cut short") }
            return number
        }
        func streamID() throws(SPDYConnectionError) -> UInt32 { try number() & 0x7FFF_FFFF }
        let isLast = flags & Self.flagFin != 0
        switch kind {
        case .synStream:
            let id = try streamID()
            // The associated stream, the priority and the credential's slot say nothing to this server.
            guard payload.readSlice(length: 6) != nil else { throw SPDYConnectionError("synStream frame is cut short") }
            self = .synStream(id: id, block: payload, isLast: isLast)
            return
        case .synReply:
            self = .synReply(id: try streamID(), block: payload, isLast: isLast)
            return
        case .headers:
            self = .headers(id: try streamID(), block: payload, isLast: isLast)
            return
        case .settings:
            let count = Int(try number())
            guard payload.readableBytes == count * 8 else { throw SPDYConnectionError("settings frame's length is not that of its count") }
            var settings: [Setting] = []
            for _ in 0..<count { settings.append(Setting(id: try number() & 0xFF_FFFF, value: try number())) }
            self = .settings(settings)
        case .reset: self = .reset(id: try streamID(), status: try number())
        case .ping: self = .ping(try number())
        case .goAway: self = .goAway(lastID: try streamID(), status: try number())
        case .windowUpdate: self = .windowUpdate(id: try streamID(), delta: try number() & 0x7FFF_FFFF)
        }
        guard payload.readableBytes == 0 else { throw SPDYConnectionError("\(kind) frame is too long") }
    }
}

extension ByteBuffer {
    /// A control frame with all that follows its header.
    package mutating func writeFrame(_ kind: SPDYFrame.Kind, flags: UInt8 = 0, _ words: [UInt32], _ block: [UInt8] = []) {
        writeMultipleIntegers(0x8000 | SPDYFrame.version, kind.rawValue)
        writeInteger(UInt32(flags) << 24 | UInt32(words.count * 4 + block.count))
        for word in words { writeInteger(word) }
        writeBytes(block)
    }

    /// The header of a data frame of `length` bytes, which follow.
    package mutating func writeDataHeader(id: UInt32, length: Int, isLast: Bool) {
        writeInteger(id & 0x7FFF_FFFF)
        writeInteger(UInt32(isLast ? SPDYFrame.flagFin : 0) << 24 | UInt32(length))
    }
}

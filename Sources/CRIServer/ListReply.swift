import GRPC
import Pods
import SwiftProtobuf

/// A list reply put together from messages that were encoded before.
///
/// The lists of the runtime service and their streamed forms carry their items as field 1 (api.proto): on the wire such a reply is,
/// for each item, the byte 0x0A (field 1, length-delimited), the item's length as a varint, and the item.
enum ListReply {
    private static let itemTag: UInt8 = 0x0A

    static func bytes<Snapshot>(_ items: [Listed<Snapshot>], _ message: (Snapshot) -> some Message) throws -> [UInt8] {
        let entries = try items.map { item in try item.encoded { try entry(message($0)) } }
        var reply: [UInt8] = []
        reply.reserveCapacity(entries.reduce(0) { $0 + $1.count })
        for entry in entries { reply += entry }
        return reply
    }

    /// Bytes of one message of a streamed list, unless a single item has more.
    private static let chunk = 64 << 10

    /// Sends a list piece by piece, so that it may be longer than a message.
    static func stream<Snapshot>(
        _ items: [Listed<Snapshot>], _ message: (Snapshot) -> some Message, to writer: ResponseWriter
    ) async throws {
        try await send(items.map { item in try item.encoded { try entry(message($0)) } }, to: writer)
    }

    /// As ``stream(_:_:to:)``, for messages that are made for this reply.
    static func stream(_ messages: [some Message], to writer: ResponseWriter) async throws {
        try await send(messages.map(entry), to: writer)
    }

    private static func send(_ entries: [[UInt8]], to writer: ResponseWriter) async throws {
        var piece: [UInt8] = []
        for entry in entries {
            if !piece.isEmpty, piece.count + entry.count > chunk {
                try await writer.write(piece)
                piece = []
            }
            piece += entry
        }
        if !piece.isEmpty { try await writer.write(piece) }
    }

    private static func entry(_ message: some Message) throws -> [UInt8] {
        let body: [UInt8] = try message.serializedBytes()
        var entry = [itemTag]
        var length = body.count
        while length >= 0x80 {
            entry.append(UInt8(truncatingIfNeeded: length) | 0x80)
            length >>= 7
        }
        entry.append(UInt8(length))
        return entry + body
    }
}

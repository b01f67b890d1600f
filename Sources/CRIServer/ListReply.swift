import GRPC
import Pods
import Runtime
import SwiftProtobuf

/// A list reply put together from messages that were encoded before.
///
/// Each item is encoded as a reply that holds it alone: encoded messages put one behind the other decode as one message with all
/// their items (protobuf.dev, "Last one wins": repeated fields are concatenated). The lists of the runtime service and their streamed
/// forms carry their items in field 1 (api.proto), so that one encoding of an item serves both.
enum ListReply {
    /// - Parameter reply: holds the snapshot's message alone.
    static func bytes<Snapshot>(_ items: [ListEntry<Snapshot>], _ reply: (Snapshot) -> some Message) throws -> [UInt8] {
        let entries = try items.map { item in try item.encoded { try reply($0).serializedBytes() } }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(entries.reduce(0) { $0 + $1.count })
        for entry in entries { bytes += entry }
        return bytes
    }

    /// Bytes of one message of a streamed list, unless a single item has more.
    private static let chunk = 64 << 10

    /// Sends a list piece by piece, so that it may be longer than a message.
    static func stream<Snapshot>(
        _ items: [ListEntry<Snapshot>], _ reply: (Snapshot) -> some Message, to writer: ResponseWriter
    ) async throws {
        try await send(items.map { item in try item.encoded { try reply($0).serializedBytes() } }, to: writer)
    }

    /// As ``stream(_:_:to:)``, for replies that were made for this stream; each holds one item.
    static func stream(_ replies: [some Message], to writer: ResponseWriter) async throws {
        try await send(replies.map { try $0.serializedBytes() }, to: writer)
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
}

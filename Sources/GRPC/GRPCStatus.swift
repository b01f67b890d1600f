/// How a call ended: a gRPC code and a message for people.
///
/// A handler that throws one answers exactly that; a client call that fails throws one.
public struct GRPCStatus: Error, Sendable, Equatable {
    /// The status codes of gRPC with their numbers on the wire
    /// (https://grpc.github.io/grpc/core/md_doc_statuscodes.html).
    public enum Code: Int, Sendable, Hashable, CaseIterable {
        case ok = 0
        case cancelled = 1
        case unknown = 2
        case invalidArgument = 3
        case deadlineExceeded = 4
        case notFound = 5
        case alreadyExists = 6
        case permissionDenied = 7
        case resourceExhausted = 8
        case failedPrecondition = 9
        case aborted = 10
        case outOfRange = 11
        case unimplemented = 12
        case `internal` = 13
        case unavailable = 14
        case dataLoss = 15
        case unauthenticated = 16

        /// As the gRPC specification spells it: "INVALID_ARGUMENT".
        public var name: String {
            String(describing: self).reduce(into: "") { name, letter in
                name += letter.isUppercase ? "_\(letter)" : letter.uppercased()
            }
        }
    }

    public var code: Code
    public var message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The largest status message sent, in bytes as the wire has them (percent-encoded). Clients on
    /// the C core refuse trailers of more than 8 KiB and would show a transport error instead.
    static let maximumWireMessageBytes = 6000

    /// The message, cut on a character boundary where it would not pass the trailers' limit.
    var wireMessage: String {
        var encoded = 0
        var end = message.startIndex
        while end < message.endIndex {
            let next = message.index(after: end)
            for byte in message[end..<next].utf8 {
                encoded += (0x20...0x7E).contains(byte) && byte != UInt8(ascii: "%") ? 1 : 3
            }
            if encoded > Self.maximumWireMessageBytes { return message[..<end] + "… (cut)" }
            end = next
        }
        return message
    }
}

extension GRPCStatus: CustomStringConvertible {
    public var description: String { message.isEmpty ? "\(code)" : "\(code): \(message)" }
}

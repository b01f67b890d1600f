import Errors
import FoundationEssentials
import NIOCore

/// How a command has ended, from meta/v1's Status on the error channel.
struct CommandStatus {
    private struct Document: Decodable {
        struct Details: Decodable { var causes: [Cause]? }

        struct Cause: Decodable {
            var reason: String?
            var message: String?
        }

        var status: String?
        var message: String?
        var reason: String?
        var details: Details?
    }

    /// Bytes that are kept of what a server says.
    private static let maximumText = 64 << 10

    private var text: [UInt8] = []

    /// Nil until a whole document has come.
    private(set) var outcome: Result<Int32, SwiftletError>?

    mutating func take(_ bytes: ByteBuffer) {
        text += bytes.readableBytesView.prefix(Self.maximumText - text.count)
        guard let document = try? JSONDecoder().decode(Document.self, from: Data(text)) else { return }
        outcome = Self.outcome(document)
    }

    /// The outcome when nothing follows.
    func end() -> Result<Int32, SwiftletError> {
        if let outcome { return outcome }
        guard text.isEmpty else { return .failure(SwiftletError(.unknown, String(decoding: text, as: UTF8.self))) }
        return .failure(SwiftletError(.unavailable, "the connection has ended without the exit code"))
    }

    private static func outcome(_ document: Document) -> Result<Int32, SwiftletError> {
        if document.status == "Success" { return .success(0) }
        if document.reason == "NonZeroExitCode",
            let code = document.details?.causes?.first(where: { $0.reason == "ExitCode" })?.message.flatMap({ Int32($0) })
        {
            return .success(code)
        }
        return .failure(SwiftletError(.internal, document.message ?? "the command has failed, and the server does not say how"))
    }
}

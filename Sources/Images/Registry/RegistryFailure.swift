import AsyncHTTPClient
import Errors
import Foundation
import NIOCore
import NIOPosix

/// A failed exchange with a registry, and whether trying again may help.
struct RegistryFailure: Error {
    var error: SwiftletError
    var isTransient: Bool
    /// What the registry asked for by `Retry-After`.
    var delay: Duration?

    /// Longest pause a registry may ask for.
    private static let maximumDelay = Duration.seconds(30)

    /// Failures below HTTP: no connection, a broken one, silence.
    static func transport(_ error: any Error, _ step: String) -> any Error {
        if error is CancellationError || (error as? HTTPClientError) == .cancelled { return CancellationError() }
        if let error = error as? SwiftletError { return error }
        if let error = error as? NIOConnectionError { return connection(to: error.host, error.connectionErrors.map(\.error), step) }
        if error is IOError { return connection(to: "", [error], step) }
        let reason =
            switch error as? HTTPClientError {
            case .readTimeout?, .deadlineExceeded?: "no progress within the time-out"
            case .connectTimeout?: "no connection within the time-out"
            case .remoteConnectionClosed?: "the connection was closed early"
            default: printable("\(error)", limit: 300)
            }
        return RegistryFailure(error: SwiftletError(.unavailable, "\(step): \(reason)", cause: nil), isTransient: true)
    }

    /// No connection to any address. A host that refuses is not asked again: nobody listens there.
    private static func connection(to host: String, _ failures: [any Error], _ step: String) -> RegistryFailure {
        let errors = failures.map { ($0 as? IOError).map { SystemError($0.errnoCode) } }
        var reasons: [String] = []
        for reason in errors.map({ $0.map { "\($0)" } ?? "no connection" }) where !reasons.contains(reason) { reasons.append(reason) }
        if reasons.isEmpty { reasons = ["\(printable(host)) has no address"] }
        let isRefused = !errors.isEmpty && errors.allSatisfy { $0?.number == ECONNREFUSED }
        return RegistryFailure(
            error: SwiftletError(.unavailable, "\(step): \(reasons.joined(separator: ", "))"), isTransient: !isRefused)
    }

    /// An answer that is not what was asked for.
    ///
    /// - Parameters:
    ///   - detail: what the server said in the body.
    ///   - speaker: who said it: the registry, or where its redirects led.
    static func status(_ response: HTTPClientResponse, detail: String, speaker: String = "the registry", _ step: String) -> RegistryFailure
    {
        let status = response.status
        let delay = response.headers.first(name: "retry-after").flatMap(Int.init).map { min(Duration.seconds(max(0, $0)), maximumDelay) }
        let (code, advice, isTransient): (SwiftletError.Code, String, Bool) =
            switch status.code {
            case 401: (.unauthenticated, "it wants credentials, or rejects those given", false)
            case 403: (.permissionDenied, "access is denied", false)
            case 404: (.notFound, "not found", false)
            case 408: (.unavailable, "\(speaker) timed out", true)
            case 429: (.resourceExhausted, "too many requests", true)
            case 500...: (.unavailable, "\(speaker) has a problem", true)
            default: (.unknown, "unexpected answer", false)
            }
        let said = detail.isEmpty ? "" : ", \(speaker) says: \(detail)"
        return RegistryFailure(
            error: SwiftletError(code, "\(step): \(advice) (HTTP \(status.code)\(said))"), isTransient: isTransient, delay: delay)
    }

    /// The first message of an error document, made safe for a log line: a registry's JSON, an object store's XML (S3, Azure, Google),
    /// or text.
    static func detail(_ body: Data) -> String {
        struct Document: Decodable {
            struct Entry: Decodable {
                var code: String?
                var message: String?
            }
            var errors: [Entry]?
        }
        let said: String
        if let entry = try? JSONDecoder().decode(Document.self, from: body).errors?.first {
            said = [entry.code, entry.message].compactMap { $0 }.joined(separator: ": ")
        } else {
            let text = String(decoding: body.prefix(4096), as: UTF8.self)
            let parts = ["Code", "Message"].compactMap { element(of: text, named: $0) }
            // A page for people says nothing in a line.
            let isText = !text.contains("<") && !text.hasPrefix("{")
            said = parts.isEmpty && isText ? String(text.prefix { !$0.isNewline }) : parts.joined(separator: ": ")
        }
        return printable(said, limit: 200)
    }

    /// What stands in the first XML element of this name, if it has no elements itself.
    private static func element(of text: String, named name: String) -> String? {
        guard let start = text.range(of: "<\(name)>"), let end = text.range(of: "</\(name)>", range: start.upperBound..<text.endIndex)
        else {
            return nil
        }
        let content = text[start.upperBound..<end.lowerBound]
        return content.isEmpty || content.contains("<") ? nil : String(content)
    }
}

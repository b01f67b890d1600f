/// The one error type that crosses module boundaries.
///
/// `message` says what failed, for which object, at which step, and what to do where that is
/// known; `cause` keeps the error underneath. The doors map `code` to a gRPC status in one place.
///
/// Whatever a message quotes of guests, images and registries, it is one printable line, and bounded (``oneLine(_:limit:)``).
public struct SwiftletError: Error, Sendable {
    /// What kind of failure this is. The names and meanings are those of the gRPC status codes.
    public enum Code: String, Sendable, Hashable {
        case cancelled
        case unknown
        case invalidArgument
        case deadlineExceeded
        case notFound
        case alreadyExists
        case permissionDenied
        case resourceExhausted
        case failedPrecondition
        case aborted
        case outOfRange
        case unimplemented
        case `internal`
        case unavailable
        case dataLoss
        case unauthenticated
    }

    public let code: Code
    public let message: String
    public let cause: (any Error)?

    public init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = oneLine(message)
        self.cause = cause
    }

    /// The same failure seen from one step further out: `step` goes in front, the code stays.
    public func during(_ step: String) -> SwiftletError {
        SwiftletError(code, "\(step): \(message)", cause: cause)
    }

    /// Wraps any error as a `SwiftletError`, keeping the code of one that already is.
    public static func wrap(_ error: any Error, _ step: String, code: Code = .internal) -> SwiftletError {
        switch error {
        case let error as SwiftletError: error.during(step)
        case is CancellationError: SwiftletError(.cancelled, "\(step): cancelled", cause: error)
        default: SwiftletError(code, step, cause: error)
        }
    }
}

extension SwiftletError: CustomStringConvertible {
    /// The message followed by every cause, outermost first.
    public var description: String {
        guard let cause, let reason = Self.reason(cause) else { return message }
        return oneLine("\(message): \(reason)")
    }

    /// A cause in words for people; nil for one of which the message has said all.
    private static func reason(_ cause: any Error) -> String? {
        switch cause {
        case is CancellationError: return nil
        case let error as DecodingError: return error.reason
        default:
            let text = "\(cause)"
            // Foundation's own: Error Domain=NSCocoaErrorDomain Code=260 "The file doesn’t exist." UserInfo={…}
            guard text.hasPrefix("Error Domain="), let start = text.firstIndex(of: "\"") else { return text }
            let quote = text[text.index(after: start)...]
            return String(quote[..<(quote.firstIndex(of: "\"") ?? quote.endIndex)])
        }
    }
}

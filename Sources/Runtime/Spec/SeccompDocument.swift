import Errors
import Foundation

/// A seccomp profile in JSON: `linux.seccomp` of the OCI runtime specification (config-linux.md), and what Docker's profiles
/// add to it.
public struct SeccompDocument: Decodable, Sendable {
    public struct Architecture: Decodable, Sendable {
        public var architecture: String
        public var subArchitectures: [String]?
    }

    public struct Rule: Decodable, Sendable {
        public var name: String?
        public var names: [String]?
        public var action: String
        public var errnoRet: UInt32?
        /// An error's name, in Docker's profiles.
        public var errno: String?
        public var args: [Argument]?
        public var includes: Condition?
        public var excludes: Condition?
    }

    public struct Argument: Decodable, Sendable {
        public var index: UInt32
        public var value: UInt64
        public var valueTwo: UInt64?
        public var op: String
    }

    public struct Condition: Decodable, Sendable {
        public var caps: [String]?
        public var arches: [String]?
        public var minKernel: String?
    }

    public var defaultAction: String
    public var defaultErrnoRet: UInt32?
    public var architectures: [String]?
    public var archMap: [Architecture]?
    public var flags: [String]?
    public var listenerPath: String?
    public var syscalls: [Rule]?

    /// - Throws: `.invalidArgument` saying where `contents` is no profile.
    public static func decode(_ contents: Data) throws -> SeccompDocument {
        do {
            return try JSONDecoder().decode(SeccompDocument.self, from: contents)
        } catch let error as DecodingError {
            throw SwiftletError(.invalidArgument, description(of: error))
        }
    }

    private static func description(of error: DecodingError) -> String {
        func place(_ context: DecodingError.Context) -> String {
            context.codingPath.map { $0.intValue.map { "[\($0)]" } ?? ".\($0.stringValue)" }.joined()
        }
        switch error {
        case .dataCorrupted(let context):
            return context.codingPath.isEmpty ? "it is not JSON" : "\(place(context)) has a value out of range"
        case .keyNotFound(let key, let context): return "\(place(context)).\(key.stringValue) is missing"
        case .typeMismatch(_, let context), .valueNotFound(_, let context): return "\(place(context)) has a value of another type"
        @unknown default: return "it cannot be read"
        }
    }
}

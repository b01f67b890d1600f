import AgentProtocol
import Errors
import Foundation

/// A seccomp profile in JSON: `linux.seccomp` of the OCI runtime specification (config-linux.md), and what Docker's profiles
/// add to it.
struct SeccompDocument: Decodable {
    struct Architecture: Decodable {
        var architecture: String
        var subArchitectures: [String]?
    }

    struct Rule: Decodable {
        var name: String?
        var names: [String]?
        var action: String
        var errnoRet: UInt32?
        /// An error's name, in Docker's profiles.
        var errno: String?
        var args: [Argument]?
        var includes: Condition?
        var excludes: Condition?
    }

    struct Argument: Decodable {
        var index: UInt32
        var value: UInt64
        var valueTwo: UInt64?
        var op: String
    }

    struct Condition: Decodable {
        var caps: [String]?
        var arches: [String]?
        var minKernel: String?
    }

    var defaultAction: String
    var defaultErrnoRet: UInt32?
    var architectures: [String]?
    var archMap: [Architecture]?
    var flags: [String]?
    var listenerPath: String?
    var syscalls: [Rule]?

    /// - Throws: `.invalidArgument` saying where `contents` is no profile.
    static func decode(_ contents: Data) throws -> SeccompDocument {
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

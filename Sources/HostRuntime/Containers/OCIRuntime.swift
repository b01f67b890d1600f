import Errors
import Foundation
import Glibc
import Linux

/// The command line of an OCI runtime, which runc's is.
/// https://github.com/opencontainers/runtime-tools/blob/v0.9.0/docs/command-line-interface.md
struct OCIRuntime: Sendable {
    var path: String
    /// Of its own, before its commands.
    var options: [String] = []
    /// Where it keeps its state.
    var root: String
    var deadline: Duration

    /// Before its command.
    var globalArguments: [String] { options + ["--root", root] }

    /// - Throws: what it said, or why it cannot be run.
    @discardableResult
    func run(_ arguments: [String], input: [UInt8] = []) async throws -> Spawn.Result {
        let command = arguments.first ?? ""
        let result: Spawn.Result
        do {
            result = try await Spawn(path, globalArguments + arguments, input: input, deadline: deadline, outputLimit: 64 << 10).run()
        } catch {
            throw SwiftletError.wrap(error, "\(path) \(command)", code: .unavailable)
        }
        guard result.succeeded else {
            throw Self.failure(said: result.errorText, "\(path) \(command) ended with status \(result.status)")
        }
        return result
    }

    /// - Parameter said: its standard error, which holds what the container's author wrote.
    static func failure(said: String, _ step: String) -> SwiftletError {
        let text = message(said)
        // runc, crun: the command, or its interpreter, is not in the container.
        let isMissing = ["executable file not found", "no such file or directory", "permission denied"].contains {
            text.lowercased().contains($0)
        }
        return SwiftletError(isMissing ? .invalidArgument : .internal, "\(step): \(oneLine(text, limit: 1024))")
    }

    /// The last line: `time="…" level=error msg="…"` of runc, or JSON.
    static func message(_ said: String) -> String {
        let lines = said.split(whereSeparator: \.isNewline)
        guard let line = lines.last(where: { $0.contains("error") }) ?? lines.last else { return "it said nothing" }
        struct Entry: Decodable { var msg: String }
        if let entry = try? JSONDecoder().decode(Entry.self, from: Data(line.utf8)) { return entry.msg }
        guard let start = line.range(of: " msg=\""), line.last == "\"" else { return String(line) }
        return line[start.upperBound...].dropLast().replacingOccurrences(of: "\\\"", with: "\"")
    }
}

import Errors
import FoundationEssentials
import Glibc
import Linux
import Runtime

/// What a plugin says when it fails: the error form of the CNI specification, section 5.
public struct CNIPluginError: Error, Sendable, Equatable, CustomStringConvertible {
    public let plugin: String
    public let command: String
    /// 1-99 are the specification's, 100 and above the plugin's own; 0 when the plugin gave none.
    public let code: Int
    public let message: String
    public let details: String

    public var description: String {
        let suffix = details.isEmpty ? "" : " (\(details))"
        return "CNI plugin \(plugin) failed in \(command) with code \(code): \(message)\(suffix)"
    }
}

/// The commands of the CNI specification, section 3.
enum CNICommand: String, Sendable {
    case add = "ADD"
    case delete = "DEL"
    case check = "CHECK"
    case status = "STATUS"
    case collectGarbage = "GC"
}

/// One call of one plugin.
struct CNIPlugin: Sendable {
    let type: String
    let executable: String
    /// Where the plugin looks for those it delegates to, above all IPAM.
    let searchPath: String
    let deadline: Duration
    let hostNamespace: String?

    /// - Throws: `failedPrecondition` when no directory has an executable of that name.
    init(_ type: String, configuration: CNIConfiguration) throws {
        let candidates = configuration.pluginDirectories.map { "\($0)/\(type)" }
        guard let executable = candidates.first(where: { access($0, X_OK) == 0 }) else {
            throw SwiftletError(
                .failedPrecondition,
                "CNI plugin \(type) is in none of \(configuration.pluginDirectories.joined(separator: ", ")); install it there")
        }
        self.type = type
        self.executable = executable
        searchPath = configuration.pluginDirectories.joined(separator: ":")
        deadline = configuration.pluginDeadline
        hostNamespace = configuration.hostNamespace
    }

    /// Runs the plugin; its answer, or nil when it printed none.
    ///
    /// - Throws: `CNIPluginError` as the cause of a `SwiftletError`; `deadlineExceeded` when it had to be killed.
    func run(_ command: CNICommand, stdin: JSONValue, request: PodNetworkRequest, namespacePath: String) async throws -> JSONValue? {
        let arguments = [
            "IgnoreUnknown=1", "K8S_POD_NAMESPACE=\(request.podNamespace)", "K8S_POD_NAME=\(request.podName)",
            "K8S_POD_INFRA_CONTAINER_ID=\(request.podID)", "K8S_POD_UID=\(request.podUID)",
        ]
        let attachment = [
            "CNI_CONTAINERID": request.podID, "CNI_NETNS": namespacePath, "CNI_IFNAME": request.interfaceName,
            "CNI_ARGS": arguments.joined(separator: ";"),
        ]
        return try await run(command, stdin: stdin, attachment, deadline: deadline, of: "pod \(request.podID): ")
    }

    /// Runs a command that is about no pod.
    func run(_ command: CNICommand, stdin: JSONValue, deadline: Duration) async throws {
        _ = try await run(command, stdin: stdin, [:], deadline: min(deadline, self.deadline), of: "")
    }

    private func run(
        _ command: CNICommand, stdin: JSONValue, _ attachment: [String: String], deadline: Duration, of subject: String
    ) async throws -> JSONValue? {
        let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        let environment = ["CNI_COMMAND": command.rawValue, "CNI_PATH": searchPath, "PATH": path].merging(attachment) { own, _ in own }
        let spawn = Spawn(
            executable, environment: environment, directory: "/", input: Array(try JSONEncoder().encode(stdin)), deadline: deadline)
        let result: Spawn.Result
        do {
            if let hostNamespace {
                result = try await NetworkNamespace.run(in: hostNamespace) { try spawn.runAndWait() }
            } else {
                result = try await spawn.run()
            }
        } catch {
            throw SwiftletError.wrap(error, "\(subject)CNI plugin \(type), \(command.rawValue)")
        }
        let answer = try? JSONDecoder().decode(JSONValue.self, from: Data(result.output))
        guard result.succeeded else { throw failure(command, result, answer, of: subject) }
        return answer
    }

    private func failure(_ command: CNICommand, _ result: Spawn.Result, _ answer: JSONValue?, of subject: String) -> SwiftletError {
        var code = 0
        if case .integer(let number)? = answer?["code"] { code = Int(clamping: number) }
        let said = answer?["msg"]?.string ?? [result.errorText, result.outputText].first { !$0.isEmpty } ?? "no message"
        let error = CNIPluginError(
            plugin: type, command: command.rawValue, code: code == 0 && answer == nil ? Int(result.status) : code,
            message: String(said.prefix(2048)), details: String((answer?["details"]?.string ?? "").prefix(2048)))
        // Code 11 asks to be tried again later, 50 and 51 are of a network that is not there yet; 5 and 7 blame what the administrator
        // wrote.
        let kind: SwiftletError.Code =
            [11, 50, 51].contains(code) ? .unavailable : [5, 7].contains(code) ? .failedPrecondition : .internal
        return SwiftletError(kind, "\(subject)network", cause: error)
    }
}

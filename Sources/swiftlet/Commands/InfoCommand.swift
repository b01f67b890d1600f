import ArgumentParser
import CRI

struct InfoCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "info", abstract: "Prints swiftletd's condition, its handlers and what it says of itself.")

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var format: OutputOptions

    func run() async throws {
        let daemon = try connection.daemon()
        let status = try await daemon.call(RuntimeRPC.status, .with { $0.verbose = true }, "asking for the status")
        let info = RuntimeInfo(status)
        switch format.output {
        case .json: Terminal.output(try JSONText.of(info))
        case .text: Terminal.output(info.text)
        }
    }
}

/// What `info` shows. Its JSON form is part of the command's interface.
struct RuntimeInfo: Encodable, Equatable {
    struct Condition: Encodable, Equatable {
        var type: String
        var status: Bool
        var reason: String
        var message: String
    }

    struct Handler: Encodable, Equatable {
        var name: String
        var features: [String]
    }

    var conditions: [Condition]
    var handlers: [Handler]
    var features: [String]
    /// The daemon's own, each as the daemon gives it: often JSON in a string.
    var info: [String: String]

    init(_ status: CRIStatusResponse) {
        conditions = status.status.conditions.map {
            Condition(type: $0.type, status: $0.status, reason: $0.reason, message: $0.message)
        }
        handlers = status.runtimeHandlers.map { handler in
            let features = [
                (handler.features.recursiveReadOnlyMounts, "recursiveReadOnlyMounts"), (handler.features.userNamespaces, "userNamespaces"),
            ]
            return Handler(name: handler.name, features: features.filter(\.0).map(\.1))
        }
        features = [
            (status.features.supplementalGroupsPolicy, "supplementalGroupsPolicy"),
            (status.features.userNamespacesHostNetwork, "userNamespacesHostNetwork"), (status.features.mountOptions, "mountOptions"),
        ].filter(\.0).map(\.1)
        info = status.info
    }

    var text: String {
        var conditionTable = Table(["CONDITION", "STATUS", "REASON", "MESSAGE"])
        conditionTable.rows = conditions.map { [$0.type, $0.status ? "true" : "false", $0.reason, Terminal.oneLine($0.message)] }
        var handlerTable = Table(["HANDLER", "FEATURES"])
        handlerTable.rows = handlers.map { [$0.name.isEmpty ? "(default)" : $0.name, $0.features.joined(separator: ",")] }
        var text = conditionTable.rendered() + "\n" + handlerTable.rendered()
        if !features.isEmpty { text += "\nfeatures: \(features.joined(separator: ", "))\n" }
        for (key, value) in info.sorted(by: { $0.key < $1.key }) {
            text += "\n\(Terminal.printable(key)):\n"
            for line in value.split(whereSeparator: \.isNewline) { text += "  \(Terminal.printable(String(line)))\n" }
        }
        return text
    }
}

import ArgumentParser
import CRI
import Errors

struct RmCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Removes pods, with their containers, or single containers.")

    @OptionGroup var connection: ConnectionOptions

    @Flag(name: [.short, .long], help: "Also what runs; it is killed.")
    var force = false

    @Argument(help: ArgumentHelp("Ids or names.", valueName: "id"))
    var ids: [String]

    func run() async throws {
        let daemon = try connection.daemon()
        let targets = try await Targets.load(from: daemon)
        let found = try ids.map { try targets.resolve($0) }
        let force = force
        try await EachTarget.run(zip(ids, found)) { name, target in
            guard force || !target.isAlive else {
                throw SwiftletError(
                    .failedPrecondition, "removing \(target.kind.rawValue) \(name): it runs; stop it first, or use rm -f")
            }
            switch target.kind {
            case .pod: try await PodRemoval.remove(target.id, name: name, daemon)
            case .container:
                _ = try await daemon.call(
                    RuntimeRPC.removeContainer, .with { $0.containerID = target.id }, "removing container \(name)",
                    within: Daemon.Patience.end)
            }
        }
    }
}

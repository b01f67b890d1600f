import ArgumentParser
import CRI
import Errors

struct LogsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logs", abstract: "Prints what a container wrote, to the same of standard output and standard error.")

    @OptionGroup var connection: ConnectionOptions

    @Flag(name: [.short, .long], help: "Go on until the container exits.")
    var follow = false

    @Argument(help: "Id or name of a container.")
    var container: String

    func run() async throws {
        let daemon = try connection.daemon()
        let id = try await Targets.load(from: daemon).resolve(container, as: .container).id
        let status = try await ContainerWatch.status(of: id, daemon)
        guard !status.logPath.isEmpty else {
            throw SwiftletError(.notFound, "\(container): the container was created without a log")
        }
        let follower = try LogFollower(path: status.logPath)
        guard follow else { return try await follower.readOnce { $0.print() } }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await follower.follow { $0.print() } }
            group.addTask {
                // However the watch ends, the log is read to its end first.
                defer { follower.finish() }
                _ = try await ContainerWatch.exit(of: id, daemon)
            }
            try await group.waitForAll()
        }
    }
}

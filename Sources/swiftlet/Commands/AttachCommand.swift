import ArgumentParser
import CRI
import Errors
import FoundationEssentials
import Glibc

struct AttachCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "attach",
        abstract: "Joins a running container's first process: what it writes from now on, and with -i what it reads.",
        discussion: """
            A container with a terminal gets the keys that are typed, and the keys to detach leave it running; so does Ctrl-C with \
            one that has no terminal. Ends with the container, with its exit code.
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var session: SessionOptions
    @OptionGroup var detach: DetachOptions

    @Flag(name: [.customShort("i"), .customLong("stdin")], help: "Pass on standard input, to a container that was created with one.")
    var hasStdin = false

    @Argument(help: "Id or name of a container.")
    var container: String

    func run() async throws {
        let daemon = try connection.daemon()
        let connector = try session.connector()
        let id = try await Targets.load(from: daemon).resolve(container, as: .container).id
        let step = "attaching to \(container)"
        let hasTerminal = try await Self.hasTerminal(id, daemon, step)
        let attachment = ContainerAttachment(
            container: id, step: step, hasStdin: hasStdin, hasTerminal: hasTerminal, detachKeys: detach.detachKeys)
        switch try await attachment.run(daemon, connector) {
        case .exited(let code): throw ExitCode(code)
        case .detached: Terminal.error("\ndetached from \(container)\n")
        }
    }

    private struct Info: Decodable {
        struct Config: Decodable { var tty: Bool? }

        var config: Config
    }

    /// As the container was created, which its status says at length.
    private static func hasTerminal(_ id: String, _ daemon: Daemon, _ step: String) async throws -> Bool {
        let request = CRIContainerStatusRequest.with { ($0.containerID, $0.verbose) = (id, true) }
        let answer = try await daemon.call(RuntimeRPC.containerStatus, request, step)
        guard let text = answer.info["info"], let info = try? JSONDecoder().decode(Info.self, from: Data(text.utf8)) else { return false }
        return info.config.tty ?? false
    }
}

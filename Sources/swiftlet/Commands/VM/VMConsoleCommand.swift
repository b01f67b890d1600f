import ArgumentParser
import CRI
import Errors

struct VMConsoleCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "console", abstract: "Joins a machine's serial console: what it shows, and what is typed.",
        discussion: """
            Its last 64 KiB come first; press Enter where a prompt is waited for. The keys to detach, Ctrl-] unless others are named, leave \
            the machine running. Several may be joined at once. Ends with the machine, with its container's exit code.
            """)

    /// virsh's and virtctl's.
    static let standardKeys = "ctrl-]"

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var session: SessionOptions

    @Option(
        help: ArgumentHelp(
            "Leave the console: keys with commas between them, each a character or ctrl- and a letter or one of @[\\]^_; empty for none.",
            valueName: "keys"))
    var detachKeys = DetachKeys(argument: standardKeys) ?? .standard

    @Argument(help: "Id or name of a pod or a container.")
    var machine: String

    func run() async throws {
        let daemon = try connection.daemon()
        let connector = try session.connector()
        let found = try await VMTarget.find(machine, daemon)
        let attachment = ContainerAttachment(
            container: try found.container, step: "joining the console of \(machine)", hasStdin: true, hasTerminal: true,
            detachKeys: detachKeys)
        switch try await attachment.run(daemon, connector) {
        case .exited(let code): throw ExitCode(code)
        case .detached: Terminal.error("\ndetached from \(machine)\n")
        }
    }
}

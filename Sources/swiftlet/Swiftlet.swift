import ArgumentParser
import Glibc
import SwiftletVersion

/// The operator's command: a CRI client that a person or a script talks to.
@main
struct Swiftlet: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "swiftlet",
        abstract: "Runs and looks after pods in virtual machines on this node.",
        discussion: """
            Ids may be shortened, and names stand for ids where only one thing has the name. \
            Exit status: 0, 1 when something failed, 2 for a wrong command line; run, exec and attach pass on the program's own.
            """,
        version: swiftletVersion,
        subcommands: [
            DoctorCommand.self, RunCommand.self, PsCommand.self, LogsCommand.self, ConsoleCommand.self, ExecCommand.self,
            AttachCommand.self, CopyCommand.self, PortForwardCommand.self,
            StopCommand.self, RmCommand.self, VMCommand.self,
            ImageCommand.self, InfoCommand.self, VersionCommand.self,
        ])

    @OptionGroup var connection: ConnectionOptions

    static func main() async {
        await Glibc.exit(status(of: Array(CommandLine.arguments.dropFirst())))
    }

    /// Runs one command line and reports a failure on standard error.
    ///
    /// - Returns: the exit status.
    static func status(of arguments: [String]) async -> Int32 {
        do {
            var command = try parseAsRoot(arguments)
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
            return 0
        } catch let code as ExitCode {
            return code.rawValue
        } catch {
            return report(error)
        }
    }

    /// Help that was asked for goes to standard output; a usage error ends in 2, any other in 1.
    private static func report(_ error: any Error) -> Int32 {
        switch exitCode(for: error) {
        case .success:
            Terminal.output(fullMessage(for: error) + "\n")
            return 0
        case .validationFailure:
            Terminal.error("swiftlet: \(message(for: error)) (see swiftlet help)\n")
            return 2
        default:
            Terminal.error("swiftlet: \(Terminal.oneLine("\(error)"))\n")
            return 1
        }
    }
}

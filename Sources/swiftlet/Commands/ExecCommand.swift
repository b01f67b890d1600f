import ArgumentParser
import CRI
import Glibc

struct ExecCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exec", abstract: "Runs a command in a running container and prints its output.",
        discussion: "The output comes when the command has ended, 16 MiB of both streams together at most. --timeout kills the command.")

    @OptionGroup var connection: ConnectionOptions

    @Argument(help: "Id or name of a container.")
    var container: String

    @Argument(parsing: .postTerminator, help: "Program and arguments, after --.")
    var command: [String] = []

    func validate() throws {
        guard !command.isEmpty else { throw ValidationError("a command is missing: swiftlet exec CONTAINER -- PROGRAM ARGUMENTS...") }
    }

    func run() async throws {
        let daemon = try connection.daemon()
        let id = try await Targets.load(from: daemon).resolve(container, as: .container).id
        // The daemon kills the command at its own timeout; the call ends a little later.
        let limit = connection.timeout?.duration
        let patient = Daemon(endpoint: daemon.endpoint)
        let reply = try await patient.call(
            RuntimeRPC.execSync,
            .with {
                $0.containerID = id
                $0.cmd = command
                if let limit { $0.timeout = max(1, Int64((limit / .seconds(1)).rounded(.up))) }
            }, "running \(command[0]) in \(container)", within: limit.map { $0 + Daemon.Patience.look })
        Terminal.write(reply.stdout, to: STDOUT_FILENO)
        Terminal.write(reply.stderr, to: STDERR_FILENO)
        throw ExitCode(reply.exitCode)
    }
}

import ArgumentParser
import CRI
import Concurrency
import Errors
import Glibc

struct ExecCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exec", abstract: "Runs a command in a running container.",
        discussion: """
            Options come before the container; what follows it is the command's. Its output comes as it is written, and its exit \
            code is this command's. The command ends with its session, also when the keys to detach are typed, or --timeout has passed.
            """)

    @ParentCommand var root: Swiftlet
    @OptionGroup var own: OwnConnectionOptions
    @OptionGroup var session: SessionOptions
    @OptionGroup var detach: DetachOptions

    @Flag(name: [.customShort("i"), .customLong("stdin")], help: "Pass on standard input.")
    var hasStdin = false

    @Flag(name: [.customShort("t"), .customLong("tty")], help: "Give the command a terminal.")
    var hasTerminal = false

    @Argument(help: "Id or name of a container.")
    var container: String

    @Argument(parsing: .captureForPassthrough, help: "Program and arguments.")
    var command: [String] = []

    /// A `--` between container and program is the user's own sign for where the command begins.
    private var program: [String] { command.first == "--" ? Array(command.dropFirst()) : command }

    func validate() throws {
        guard !program.isEmpty else { throw ValidationError("a command is missing: swiftlet exec CONTAINER PROGRAM ARGUMENTS...") }
    }

    func run() async throws {
        guard !hasStdin || !hasTerminal || isatty(STDIN_FILENO) == 1 else {
            throw ValidationError("-it needs a terminal as standard input; leave out -t")
        }
        let connection = own.with(root.connection)
        let daemon = try connection.daemon()
        let connector = try session.connector()
        let id = try await Targets.load(from: daemon).resolve(container, as: .container).id
        let step = "running \(program[0]) in \(container)"
        // The user's timeout is the command's.
        let patient = Daemon(endpoint: daemon.endpoint)
        let url = try await patient.call(
            RuntimeRPC.exec,
            .with {
                ($0.containerID, $0.cmd) = (id, program)
                ($0.stdin, $0.stdout, $0.stderr, $0.tty) = (hasStdin, true, !hasTerminal, hasTerminal)
            }, step
        ).url
        let session = CommandSession(hasStdin: hasStdin, hasTerminal: hasTerminal, detachKeys: detach.detachKeys)
        let carry = { @Sendable in
            do {
                return try await session.run(try await connector.command(at: url))
            } catch {
                throw SwiftletError.wrap(error, step)
            }
        }
        let end =
            if let limit = connection.timeout?.duration {
                try await withDeadline(limit, step, carry)
            } else {
                try await carry()
            }
        if case .exited(let code) = end { throw ExitCode(code) }
    }
}

import ArgumentParser
import CRI
import Errors
import FoundationEssentials
import Glibc

struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Runs an image as a pod of one container and ends with its exit code.",
        discussion: """
            The image is pulled if it is not on the node. The pod is removed afterwards; Ctrl-C stops and removes it early, \
            a second Ctrl-C gives up at once. Its log lies in /var/log/swiftlet, or in $SWIFTLET_LOGS, until then. \
            With -i or -t the command joins the container as attach does; what was written before is in its log, and the keys to detach \
            leave it running. With --runtime-handler vm the image is a machine's disk, and what is joined its serial console.
            """)

    @OptionGroup var connection: ConnectionOptions

    @Option(help: "Name of the pod and its container. (default: from the image)")
    var name: String?

    @Option(name: [.short, .long], help: "NAME=VALUE, or NAME for this shell's value; may be repeated.")
    var env: [String] = []

    @Option(help: "Kind of pod: a handler of swiftlet info. (default: the daemon's)")
    var runtimeHandler = ""

    @Option(help: "KEY=VALUE, of the pod; may be repeated.")
    var annotation: [String] = []

    @OptionGroup var session: SessionOptions
    @OptionGroup var detachment: DetachOptions

    @Flag(name: [.customShort("i"), .customLong("stdin")], help: "Pass on standard input.")
    var hasStdin = false

    @Flag(name: [.customShort("t"), .customLong("tty")], help: "Give the container a terminal.")
    var hasTerminal = false

    @Option(name: [.short, .long], help: "Limit: 512m, 2g.", transform: Self.memory)
    var memory: Int64?

    @Option(help: "Limit: 0.5, 2.")
    var cpus: Double?

    @Option(name: [.short, .long], help: "Working directory. (default: the image's)")
    var workdir: String?

    @Option(name: [.short, .long], help: "UID, UID:GID, or a user of the image. (default: the image's)")
    var user: String?

    @Flag(name: [.short, .long], help: "Leave the container running and print the pod's name.")
    var detach = false

    @Flag(help: "Leave the pod on the node afterwards.")
    var keep = false

    @Flag(name: [.short, .long], help: "No progress on standard error.")
    var quiet = false

    @Argument(help: "registry/name:tag, or an image's id.")
    var image: String

    @Argument(parsing: .postTerminator, help: "Arguments instead of the image's own, after --.")
    var command: [String] = []

    func validate() throws {
        guard cpus.map({ $0 >= 0.01 && $0 <= 1024 }) ?? true else { throw ValidationError("--cpus must lie between 0.01 and 1024") }
        do {
            _ = try plan()
        } catch let error as SwiftletError where error.code == .invalidArgument {
            throw ValidationError(error.message)
        }
    }

    func run() async throws {
        let progress = Progress(isQuiet: quiet)
        let plan = try plan()
        let session = RunSession(plan, handler: runtimeHandler, try connection.daemon(), progress)
        let (isJoined, keys) = ((hasStdin || hasTerminal) && !detach, detachment.detachKeys)
        guard !isJoined || !hasStdin || !hasTerminal || isatty(STDIN_FILENO) == 1 else {
            throw ValidationError("-it needs a terminal as standard input; leave out -t")
        }
        let connector = try self.session.connector()
        // Nil: it runs on.
        let work = Task { () -> Int32? in
            if isJoined { return try await session.runAttached(keys, connector) }
            guard detach else { return try await session.runToEnd() }
            try await session.runDetached()
            return nil
        }
        let interrupts = Interrupts {
            Terminal.error("\n")
            progress.note("stopping \(plan.name); Ctrl-C again leaves it as it is")
            work.cancel()
        } again: { signal in
            Glibc.exit(128 + signal)
        }
        let outcome = await work.result
        let signal = withExtendedLifetime(interrupts) { $0.signal }
        try await leave(session, outcome, interrupted: signal != nil, progress)
        if let signal { throw ExitCode(128 + signal) }
        if let code = try outcome.get() { throw ExitCode(code) }
        if !detach { Terminal.error("\ndetached from \(plan.name)\n") }
        Terminal.output(plan.name + "\n")
    }

    /// What is left of the pod: all of it when it is kept or runs on, else nothing.
    private func leave(
        _ session: RunSession, _ outcome: Result<Int32?, any Error>, interrupted: Bool, _ progress: Progress
    ) async throws {
        let runsOn = if case .success(nil) = outcome { true } else { false }
        let failed = if case .failure = outcome { true } else { false }
        do {
            if keep {
                if interrupted { try await session.stop() }
            } else if !runsOn {
                try await session.remove()
            }
        } catch {
            // The first error is the one to report; this one is only the last straw.
            guard failed || interrupted else { throw error }
            progress.note("\(error)")
        }
    }

    private func plan() throws -> RunPlan {
        try RunPlan(
            .init(
                image: image, command: command, name: name, environment: env, memory: memory, cpus: cpus, workingDirectory: workdir,
                user: user, annotations: annotation, hasStdin: hasStdin, hasTerminal: hasTerminal),
            uid: UUID().uuidString.lowercased(), inherited: ProcessInfo.processInfo.environment)
    }

    private static func memory(_ text: String) throws -> Int64 {
        guard let bytes = Units.bytes(text) else { throw ValidationError("\(text) is no size; use 512m or 2g") }
        return bytes
    }
}

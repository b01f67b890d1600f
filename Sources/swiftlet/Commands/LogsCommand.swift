import ArgumentParser
import CRI
import Errors

struct LogsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logs", abstract: "Prints what a container wrote, to the same of standard output and standard error.",
        discussion: "Files that were rotated away are not read; --follow goes on over a rotation.")

    @OptionGroup var connection: ConnectionOptions

    @Flag(name: [.short, .long], help: "Go on until the container exits.")
    var follow = false

    @Option(help: ArgumentHelp("Begin with so many of the last lines. (default: all)", valueName: "lines"))
    var tail: LineCount?

    @Option(
        help: ArgumentHelp("Begin with lines of so long ago (5s, 1h30m) or of that time (2026-01-02T03:04:05Z).", valueName: "time"))
    var since: LogSince?

    @Flag(name: [.short, .long], help: "Print each line's time before it.")
    var timestamps = false

    @Flag(name: [.short, .long], help: "Print the log of the container's attempt before this one.")
    var previous = false

    @Argument(help: "Id or name of a container.")
    var container: String

    func run() async throws {
        let daemon = try connection.daemon()
        let targets = try await Targets.load(from: daemon)
        let latest = try targets.resolve(container, as: .container)
        let id = try previous ? targets.previous(of: latest).id : latest.id
        let status = try await ContainerWatch.status(of: id, daemon)
        guard !status.logPath.isEmpty else {
            throw SwiftletError(.notFound, "\(container): the container was created without a log")
        }
        let selection = LogSelection(tail: tail?.lines, since: since?.time(now: .now), timestamps: timestamps)
        let follower = try LogFollower(path: status.logPath)
        guard follow else { return try await follower.readOnce(selection) { $0.print() } }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await follower.follow(selection) { $0.print() } }
            group.addTask {
                // However the watch ends, the log is read to its end first.
                defer { follower.finish() }
                _ = try await ContainerWatch.exit(of: id, daemon)
            }
            try await group.waitForAll()
        }
    }
}

/// How many lines: a number, or -1 for all, as kubectl has it.
struct LineCount: ExpressibleByArgument, Equatable {
    /// nil: all.
    let lines: Int?

    init?(argument: String) {
        guard let number = Int(argument), number >= -1 else { return nil }
        lines = number < 0 ? nil : number
    }
}

/// The earliest lines of a log that are asked for: by their age, or by their time in RFC 3339.
enum LogSince: ExpressibleByArgument, Equatable {
    case age(Duration)
    case time(LogTime)

    init?(argument: String) {
        if let span = TimeSpan(argument: argument) {
            self = .age(span.duration)
        } else if let time = LogTime(argument.utf8) {
            self = .time(time)
        } else {
            return nil
        }
    }

    func time(now: LogTime) -> LogTime {
        switch self {
        case .age(let age): now - age
        case .time(let time): time
        }
    }
}

import Concurrency
import Errors
import Runtime
import StreamControl
import StreamServer
import Synchronization

/// Sessions whose commands swiftletd runs, each by the name that swiftletd calls it by.
///
/// swiftletd asks for each as long as it lasts: one that nobody asks for has lost its swiftletd.
final class DaemonCommands: Sendable {
    struct Patience {
        /// How long nobody may ask for a session.
        var silence = Duration.seconds(10)
        /// How long a client is waited for: longer than its URL is good.
        var arrival = Duration.seconds(90)
    }

    private final class Command: Sendable {
        let session = Mutex<DaemonCommandSession?>(nil)
        let size = Mutex<TerminalSize?>(nil)
        /// The calls that wait at this moment, and how many there have been.
        let calls = Mutex((waiting: 0, all: 0))
        let (begin, end) = (Event(), Event())
    }

    private static let prefix = "command:"
    private static let longestName = 64

    private let patience: Patience
    private let commands = Mutex<[String: Command]>([:])

    init(patience: Patience = Patience()) { self.patience = patience }

    /// - Returns: as a request of the stream server carries it.
    /// - Throws: `.invalidArgument` for a name that cannot be, or is taken.
    func expect(_ name: String) throws -> String {
        guard (1...Self.longestName).contains(name.utf8.count) else {
            throw SwiftletError(.invalidArgument, "\(quoted(name)) is no name of a session")
        }
        let command = Command()
        let isNew = commands.withLock { commands in
            if commands[name] == nil { commands[name] = command }
            return commands[name] === command
        }
        guard isNew else { throw SwiftletError(.invalidArgument, "there is a session \(quoted(name)) already") }
        abandonWhenSilent(name, command)
        return Self.prefix + name
    }

    /// - Returns: the name in what ``expect(_:)`` has returned; nil for any other address.
    static func name(in address: String) -> String? {
        address.hasPrefix(prefix) ? String(address.dropFirst(prefix.count)) : nil
    }

    /// The client has come.
    func begin(_ name: String, _ streams: StreamSet, _ size: TerminalSize? = nil) throws -> DaemonCommandSession {
        guard let command = commands.withLock({ $0[name] }) else { throw Self.lost }
        let session = DaemonCommandSession(streams) { [weak self, weak command] in
            if let command { self?.remove(name, command) }
        }
        command.session.withLock { $0 = session }
        command.size.withLock { $0 = size }
        command.begin.happen()
        // It may have been given up meanwhile.
        if commands.withLock({ $0[name] !== command }) { session.finish(.failure(Self.lost)) }
        return session
    }

    /// - Returns: the size of the client's terminal, where it is known.
    /// - Throws: `.notFound` when nobody has come in time, and for a session that is unknown.
    @discardableResult
    func waitForClient(of name: String) async throws -> TerminalSize? {
        let command = try command(name)
        try await waiting(name, command) { [patience] in
            do {
                try await withTimeout(patience.arrival, "waiting for the client") { try await command.begin.wait() }
            } catch let error as SwiftletError where error.code == .deadlineExceeded {
                throw SwiftletError(.notFound, "no client has come for the session", cause: error)
            }
        }
        return command.size.withLock { $0 }
    }

    /// Has the session's client joined with a process, from whose start on the session needs no swiftletd.
    func join(_ process: JoinableProcess, _ name: String) throws {
        guard let session = try command(name).session.withLock({ $0 }) else {
            throw SwiftletError(.failedPrecondition, "no client has come for the session yet")
        }
        try session.join(process)
    }

    func waitForEnd(of name: String) async throws {
        let command = try command(name)
        try await waiting(name, command) { try await command.end.wait() }
    }

    /// Returns when there is room for more.
    func deliver(_ output: StreamDeliverOutputRequest) async throws {
        guard let session = try command(output.sessionID).session.withLock({ $0 }) else {
            throw SwiftletError(.failedPrecondition, "no client has come for the session yet")
        }
        await session.take(output)
    }

    /// A wait that fails, or whose caller is gone, gives the session up.
    private func waiting(_ name: String, _ command: Command, _ wait: () async throws -> Void) async throws {
        command.calls.withLock { $0 = ($0.waiting + 1, $0.all + 1) }
        defer { command.calls.withLock { $0.waiting -= 1 } }
        do {
            try await wait()
        } catch {
            abandon(name, command)
            throw error
        }
        abandonWhenSilent(name, command)
    }

    private func abandonWhenSilent(_ name: String, _ command: Command) {
        let asked = command.calls.withLock { $0.all }
        Task {
            try await Task.sleep(for: patience.silence)
            guard command.calls.withLock({ $0.waiting == 0 && $0.all == asked }) else { return }
            abandon(name, command)
        }
    }

    private func abandon(_ name: String, _ command: Command) {
        if command.session.withLock({ $0?.hasJoined ?? false }) { return }
        remove(name, command)
        command.session.withLock { $0 }?.finish(.failure(Self.lost))
    }

    private func remove(_ name: String, _ command: Command) {
        commands.withLock { if $0[name] === command { $0[name] = nil } }
        command.end.happen()
    }

    private func command(_ name: String) throws -> Command {
        guard let command = commands.withLock({ $0[name] }) else { throw SwiftletError(.notFound, "there is no such session") }
        return command
    }

    private static let lost = SwiftletError(.unavailable, "swiftletd, which runs the command, has ended; try again")
}

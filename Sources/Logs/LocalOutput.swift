import Concurrency
import Errors
import Foundation
import Logging
import Runtime
import Synchronization

/// Copies containers' output to their logs, in this process.
///
/// Where each log ends is kept in a file of its own, so that the next process goes on at the exact byte.
public final class LocalOutput: Sendable {
    /// What is to become of a log while it is being opened.
    private enum Outcome {
        case kept
        case closed
        case removed
    }

    private enum Entry {
        case opening(Outcome)
        case open(ContainerLog, LogBudget?)
        case followed(FollowedLog)

        var log: ContainerLog? {
            switch self {
            case .opening: nil
            case .open(let log, _): log
            case .followed(let followed): followed.log
            }
        }
    }

    private struct FollowedLog {
        let log: ContainerLog
        /// Nil: as fast as it is written.
        let budgeted: BudgetedSink?
        let followers: OutputFollowers
        let endpoint: OutputEndpoint
        let end: OutputEnd
        /// Ends when both sources have ended, or when it is cancelled; then the log is closed.
        let copying: Task<Void, Never>
    }

    typealias Opening = @Sendable (LogLocation?, LogRotation?, _ positionPath: String) async throws -> ContainerLog

    private let directory: String
    private let openLog: Opening
    private let reader: any OutputReader
    private let collector: (any LogCollector)?
    private let logger: Logger
    private let entries = Mutex<[String: Entry]>([:])
    private let openings = SingleFlight<String, Void>(whenAbandoned: .finish)

    /// - Parameters:
    ///   - directory: absolute; it must exist. The position of each log is kept in it.
    ///   - reader: reads what containers write.
    ///   - collector: gets the lines of all logs as well.
    public convenience init(directory: String, reader: any OutputReader, collector: (any LogCollector)? = nil, logger: Logger) {
        self.init(directory: directory, reader: reader, collector: collector, logger: logger) {
            try await ContainerLog.open(location: $0, positionPath: $2, rotation: $1, logger: logger)
        }
    }

    init(
        directory: String, reader: any OutputReader, collector: (any LogCollector)? = nil, logger: Logger, openLog: @escaping Opening
    ) {
        self.directory = directory
        self.collector = collector
        self.openLog = openLog
        self.reader = reader
        self.logger = logger
    }

    /// Opens the container's log, before there is anything to write. Does nothing for one that is open.
    ///
    /// - Throws: `.invalidArgument` for an id that is no file's name; `.failedPrecondition` naming the file that cannot be opened;
    ///   `.deadlineExceeded` when its disk does not answer.
    public func open(_ log: LogTarget) async throws {
        guard Self.isName(log.container) else {
            throw SwiftletError(.invalidArgument, "\(quoted(log.container)) is no container's id")
        }
        try await openings.run(log.container) { [self] in try await openNow(log) }
    }

    private func openNow(_ target: LogTarget) async throws {
        let id = target.container
        let isNew = try entries.withLock { entries in
            switch entries[id] {
            case nil:
                entries[id] = .opening(.kept)
                return true
            case .open, .followed: return false
            case .opening: throw Self.closedMeanwhile(id)
            }
        }
        guard isNew else { return }
        let location = target.path.isEmpty ? nil : LogLocation(directory: target.directory, path: target.path)
        let result = await Self.result {
            let log = try await openLog(location, target.rotation, position(of: id))
            if let collector { await log.collect(collector.collect(id, target.names)) }
            return log
        }
        let outcome = entries.withLock { entries in
            guard case .opening(let outcome) = entries[id] else { return Outcome.closed }
            if case .kept = outcome, case .success(let log) = result {
                entries[id] = .open(log, target.budget)
            } else {
                entries[id] = nil
            }
            return outcome
        }
        if case .removed = outcome { await removePosition(of: id) }
        let log = try result.get()
        if case .kept = outcome { return }
        await log.close()
        throw Self.closedMeanwhile(id)
    }

    private static func result(_ open: () async throws -> ContainerLog) async -> Result<ContainerLog, any Error> {
        do { return .success(try await open()) } catch { return .failure(error) }
    }

    private static func closedMeanwhile(_ id: String) -> SwiftletError {
        SwiftletError(.aborted, "container \(id): its log was closed while it was opened")
    }

    /// Copies the output to the open log from now on, until both of its sources end. Does nothing for one that is copied already.
    ///
    /// - Throws: `.notFound` for a log that is not open.
    public func follow(_ container: String, from endpoint: OutputEndpoint) throws {
        try entries.withLock { entries in
            switch entries[container] {
            case nil, .opening: throw Self.notOpen(container)
            case .followed: return
            case .open(let log, let budget):
                let (budgeted, followers, end) = (budget.map { BudgetedSink(log: log, budget: $0) }, OutputFollowers(), OutputEnd())
                let copying = Task { await self.copy(container, from: endpoint, until: end, to: log, budgeted, followers) }
                entries[container] = .followed(
                    FollowedLog(log: log, budgeted: budgeted, followers: followers, endpoint: endpoint, end: end, copying: copying))
            }
        }
    }

    private func copy(
        _ id: String, from endpoint: OutputEndpoint, until end: OutputEnd, to log: ContainerLog, _ budgeted: BudgetedSink?,
        _ followers: OutputFollowers
    ) async {
        do {
            if case .console = endpoint { await log.readTerminal() }
            // Followers see what waits for the budget, and what it drops.
            try await reader.copy(from: endpoint, to: FollowedSink(log: budgeted ?? log, followers: followers), until: end)
        } catch {
            if !Task.isCancelled { logger.warning("output ended early", metadata: ["container": "\(id)", "error": "\(error)"]) }
        }
        // Whatever has ended it: nobody sees more.
        for source in StandardStream.allCases { followers.finish(source) }
        await log.close()
    }

    private static func notOpen(_ id: String) -> SwiftletError { SwiftletError(.notFound, "container \(id): its log is not open") }

    /// Shows nothing of the container but the end of its stderr, for who sees a terminal's output elsewhere.
    ///
    /// - Throws: `.failedPrecondition` for a container whose output is not read.
    public func watchEnd(of container: String) throws -> OutputFollower {
        let follower = try attach(container)
        follower.finish(.stdout)
        return follower
    }

    /// Shows what the container writes from now on.
    ///
    /// - Throws: `.failedPrecondition` for a container whose output is not read.
    public func attach(_ container: String) throws -> OutputFollower {
        guard case .followed(let followed) = entries.withLock({ $0[container] }) else {
            throw SwiftletError(.failedPrecondition, "container \(container): its output is not read; it does not run")
        }
        let follower = OutputFollower { followed.followers.remove($0) }
        followed.followers.add(follower)
        return follower
    }

    /// Goes on in the file that the log's path names now.
    ///
    /// - Throws: `.failedPrecondition` when the log is not open, or the new file cannot be opened: the old one stays in use.
    public func reopen(_ container: String) async throws {
        guard let log = entries.withLock({ $0[container] })?.log else {
            throw SwiftletError(.failedPrecondition, "container \(container): its log is not open; try again")
        }
        try await log.reopen()
    }

    /// Returns when both sources have ended and are written, or what ends the output for good has come.
    ///
    /// - Parameters:
    ///   - liftingBudget: what waits for the log's budget is written at once.
    ///   - hasEnded: a source that has no end of its own ends with what it holds now.
    /// - Throws: `.notFound` for a log that is not open, or is closed meanwhile; `.failedPrecondition` for one that is not followed.
    public func drained(_ container: String, liftingBudget: Bool = false, hasEnded: Bool = false) async throws {
        let entry = entries.withLock { $0[container] }
        guard case .followed(let followed) = entry else {
            guard entry?.log != nil else { throw Self.notOpen(container) }
            throw SwiftletError(.failedPrecondition, "container \(container): its output is not read")
        }
        if hasEnded { followed.end.come() }
        if liftingBudget, let budgeted = followed.budgeted {
            if case .console = followed.endpoint { await budgeted.lift(.max) } else { await budgeted.lift() }
        }
        await followed.copying.value
        guard case .followed(let now) = entries.withLock({ $0[container] }), now.followers === followed.followers else {
            throw Self.notOpen(container)
        }
    }

    /// Ends the copying and closes the log. The position stays.
    public func close(_ container: String) { end(container, .closed) }

    /// Closes, and forgets what is kept of the container. Idempotent.
    public func remove(_ container: String) async {
        guard Self.isName(container) else { return }
        end(container, .removed)
        await removePosition(of: container)
    }

    private func removePosition(of container: String) async {
        let path = position(of: container)
        await OwnThread.answer { LogPositionFile.remove(path) }
    }

    /// Closes the logs of all other containers than these.
    ///
    /// - Parameter forget: what is kept of those as well.
    public func keep(only containers: Set<String>, forget: Bool) async {
        for id in entries.withLock({ Array($0.keys) }) where !containers.contains(id) { end(id, forget ? .removed : .closed) }
        guard forget else { return }
        let (directory, suffix) = (directory, Self.positionSuffix)
        await OwnThread.answer {
            let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
            for name in names where name.hasSuffix(suffix) && !containers.contains(String(name.dropLast(suffix.count))) {
                LogPositionFile.remove("\(directory)/\(name)")
            }
        }
    }

    /// Ends the copying, which closes the log when the write that is under way has ended. Waits for no disk.
    private func end(_ id: String, _ outcome: Outcome) {
        let entry = entries.withLock { entries in
            let entry = entries[id]
            switch entry {
            case .opening(.removed): break
            case .opening: entries[id] = .opening(outcome)
            case .open, .followed, nil: entries[id] = nil
            }
            return entry
        }
        switch entry {
        case .open(let log, _): Task { await log.close() }
        case .followed(let followed): followed.copying.cancel()
        case .opening, nil: break
        }
    }

    /// Whether an id may be part of a path: no more than a file's name may have (NAME_MAX, 255 bytes) beside the suffix.
    static func isName(_ container: String) -> Bool {
        let bytes = container.utf8
        return (1...200).contains(bytes.count) && bytes.first != UInt8(ascii: ".")
            && bytes.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "/") }
    }

    private func position(of container: String) -> String { "\(directory)/\(container)\(Self.positionSuffix)" }

    private static let positionSuffix = ".position"
}

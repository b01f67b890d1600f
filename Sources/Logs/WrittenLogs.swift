import Concurrency
import Errors
import Foundation
import Logging
import Runtime
import Synchronization

/// Gives the lines of logs that other processes write to a collector.
///
/// How far each was read is kept in a file of its own, so that the next process goes on there: what was read in the last second before a
/// kill comes twice.
public final class WrittenLogs: Sendable {
    /// What is known of a log's end.
    private final class End: Sendable {
        /// Nothing more is written to it.
        let hasCome = Atomic(false)
        /// Nothing is to be kept of it.
        let isForgotten = Atomic(false)
    }

    private struct Entry {
        let reader: WrittenLogReader
        let collected: any CollectedLog
        let end = End()
        var reading: Task<Void, Never>?
    }

    /// From one look to the next, where something was there, and where nothing is for a while.
    private static let shortestPause = Duration.milliseconds(100)
    private static let longestPause = Duration.seconds(1)
    /// How far a log was read is noted so often at most.
    private static let noteInterval = Duration.seconds(1)
    private static let suffix = ".read"
    private static let pool = BlockingPool("logs that others write", threads: 16)

    private let directory: String
    private let collector: any LogCollector
    private let logger: Logger
    private let entries = Mutex<[String: Entry]>([:])

    /// - Parameter directory: absolute; it must exist. How far each log was read is kept in it.
    public init(directory: String, collector: any LogCollector, logger: Logger) {
        (self.directory, self.collector, self.logger) = (directory, collector, logger)
    }

    public func contains(_ container: String) -> Bool { entries.withLock { $0[container] != nil } }

    /// Does nothing for one that is known.
    ///
    /// - Throws: `.invalidArgument` for an id that is no file's name.
    public func open(_ log: LogTarget) async throws {
        guard LocalOutput.isName(log.container) else {
            throw SwiftletError(.invalidArgument, "\(quoted(log.container)) is no container's id")
        }
        guard !contains(log.container) else { return }
        let (id, path) = (log.container, path(log.container))
        let location = LogLocation(directory: log.directory, path: log.path)
        let reader = try await Self.pool.run("find log \(id)") { _ in WrittenLogReader(location, positionPath: path) }
        let collected = collector.collect(id, log.names)
        entries.withLock { entries in
            if entries[id] == nil { entries[id] = Entry(reader: reader, collected: collected) }
        }
    }

    /// Reads it from now on. Does nothing for one that is read already.
    ///
    /// - Throws: `.notFound` for one that is not open.
    public func follow(_ container: String) throws {
        try entries.withLock { entries in
            guard let entry = entries[container] else { throw Self.notOpen(container) }
            guard entry.reading == nil else { return }
            entries[container]?.reading = Task { await self.read(container, entry) }
        }
    }

    private func read(_ id: String, _ entry: Entry) async {
        var (pause, noted) = (Self.shortestPause, ContinuousClock.now)
        var told: String?
        while true {
            // Before the read: what was written until then is read.
            let isLast = entry.end.hasCome.load(ordering: .acquiring)
            do {
                let lines = try await Self.pool.run("read log \(id)") { _ in try entry.reader.read() }
                entry.collected.take(lines)
                if lines.isEmpty || noted + Self.noteInterval <= .now {
                    noted = .now
                    try await Self.pool.run("note position of log \(id)") { _ in try entry.reader.note() }
                }
                guard lines.isEmpty else {
                    pause = Self.shortestPause
                    continue
                }
                told = nil
            } catch {
                let reason = "\(error)"
                if told != reason { logger.warning("a log is not collected", metadata: ["container": "\(id)", "error": "\(reason)"]) }
                told = reason
            }
            guard !isLast else { break }
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, Self.longestPause)
        }
        if entry.end.isForgotten.load(ordering: .acquiring) { await removePosition(of: id) }
    }

    /// Returns when it was read to its end, which is known by its being closed.
    ///
    /// - Throws: `.notFound` for one that is not open, or is closed meanwhile.
    public func drained(_ container: String) async throws {
        guard let reading = entries.withLock({ $0[container]?.reading }) else { throw Self.notOpen(container) }
        await reading.value
        throw Self.notOpen(container)
    }

    /// Nothing more is written to it: what is there is read by itself. Idempotent.
    ///
    /// - Parameter forget: how far it was read as well.
    public func close(_ container: String, forget: Bool) async {
        guard LocalOutput.isName(container) else { return }
        let entry = entries.withLock { $0.removeValue(forKey: container) }
        if forget { entry?.end.isForgotten.store(true, ordering: .releasing) }
        entry?.end.hasCome.store(true, ordering: .releasing)
        if forget, entry?.reading == nil { await removePosition(of: container) }
    }

    /// Closes all others.
    public func keep(only containers: Set<String>, forget: Bool) async {
        for id in entries.withLock({ Array($0.keys) }) where !containers.contains(id) { await close(id, forget: forget) }
        guard forget else { return }
        let directory = directory
        await OwnThread.answer {
            let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
            for name in names where name.hasSuffix(Self.suffix) && !containers.contains(String(name.dropLast(Self.suffix.count))) {
                unlink("\(directory)/\(name)")
            }
        }
    }

    private func removePosition(of container: String) async {
        let path = path(container)
        await OwnThread.answer { _ = unlink(path) }
    }

    private func path(_ container: String) -> String { "\(directory)/\(container)\(Self.suffix)" }

    private static func notOpen(_ id: String) -> SwiftletError { SwiftletError(.notFound, "container \(id): its log is not open") }
}

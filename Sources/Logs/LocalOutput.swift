import Concurrency
import Errors
import Foundation
import Logging
import Runtime
import Synchronization

/// Copies containers' output to their logs, in this process.
///
/// Where each log ends is kept in a file of its own, so that the next process goes on at the exact byte.
public final class LocalOutput: ContainerOutput {
    /// What is to become of a log while it is being opened.
    private enum Outcome {
        case kept
        case closed
        case removed
    }

    private enum Entry {
        case opening(Outcome)
        /// - copying: ends when both sources have ended, or when it is cancelled; then the log is closed.
        case open(ContainerLog, copying: Task<Void, Never>?)
    }

    typealias Opening = @Sendable (LogLocation?, _ positionPath: String) async throws -> ContainerLog

    private let directory: String
    private let openLog: Opening
    private let reader: any OutputReader
    private let logger: Logger
    private let entries = Mutex<[String: Entry]>([:])
    private let openings = SingleFlight<String, Void>(whenAbandoned: .finish)

    /// - Parameters:
    ///   - directory: absolute; it must exist. The position of each log is kept in it.
    ///   - reader: reads what containers write.
    public convenience init(directory: String, reader: any OutputReader, logger: Logger) {
        self.init(directory: directory, reader: reader, logger: logger) { try await ContainerLog.open(location: $0, positionPath: $1) }
    }

    init(directory: String, reader: any OutputReader, logger: Logger, openLog: @escaping Opening) {
        self.directory = directory
        self.openLog = openLog
        self.reader = reader
        self.logger = logger
    }

    public func open(_ log: LogTarget) async throws {
        try await openings.run(log.container) { [self] in try await openNow(log) }
    }

    private func openNow(_ target: LogTarget) async throws {
        let id = target.container
        let isNew = try entries.withLock { entries in
            switch entries[id] {
            case nil:
                entries[id] = .opening(.kept)
                return true
            case .open: return false
            case .opening: throw Self.closedMeanwhile(id)
            }
        }
        guard isNew else { return }
        let location = target.path.isEmpty ? nil : LogLocation(directory: target.directory, path: target.path)
        let result = await Self.result { try await openLog(location, position(of: id)) }
        let outcome = entries.withLock { entries in
            guard case .opening(let outcome) = entries[id] else { return Outcome.closed }
            if case .kept = outcome, case .success(let log) = result {
                entries[id] = .open(log, copying: nil)
            } else {
                entries[id] = nil
            }
            return outcome
        }
        if case .removed = outcome { LogPositionFile.remove(position(of: id)) }
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

    public func follow(_ container: String, from endpoint: OutputEndpoint) {
        entries.withLock { entries in
            guard case .open(let log, copying: nil) = entries[container] else { return }
            entries[container] = .open(log, copying: Task { await self.copy(container, from: endpoint, to: log) })
        }
    }

    private func copy(_ id: String, from endpoint: OutputEndpoint, to log: ContainerLog) async {
        do {
            try await reader.copy(from: endpoint, to: log)
        } catch {
            if !Task.isCancelled { logger.warning("output ended early", metadata: ["container": "\(id)", "error": "\(error)"]) }
        }
        await log.close()
    }

    public func reopen(_ container: String) async throws {
        guard case .open(let log, _) = entries.withLock({ $0[container] }) else {
            throw SwiftletError(.failedPrecondition, "container \(container): its log is not open; try again")
        }
        try await log.reopen()
    }

    public func drained(_ container: String) async {
        guard case .open(_, let copying) = entries.withLock({ $0[container] }) else { return }
        await copying?.value
    }

    public func close(_ container: String) async {
        end(container, .closed)
    }

    public func remove(_ container: String) async {
        end(container, .removed)
        LogPositionFile.remove(position(of: container))
    }

    public func keep(only containers: Set<String>) async {
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
            case .open, nil: entries[id] = nil
            }
            return entry
        }
        guard case .open(let log, let copying) = entry else { return }
        if let copying {
            copying.cancel()
        } else {
            Task { await log.close() }
        }
    }

    private func position(of container: String) -> String { "\(directory)/\(container)\(Self.positionSuffix)" }

    private static let positionSuffix = ".position"
}

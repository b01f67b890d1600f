import Dispatch
import Errors
import Glibc

/// One container's log file in the CRI format.
///
/// File I/O runs on a queue of its own, so that a slow disk holds up this log alone.
public final class ContainerLog: Sendable {
    private let queue: DispatchQueue
    // Touched on `queue` only.
    private nonisolated(unsafe) var file: LogFile
    // Touched on `queue` only: who waits for the log to be reopened.
    private nonisolated(unsafe) var reopening: [CheckedContinuation<Void, any Error>] = []

    /// How long a reopening waits for the end of a line that is written in part.
    private static let lineEnd = DispatchTimeInterval.seconds(2)

    /// Opens the log for appending and finds out how much of each source it already holds.
    ///
    /// - Parameters:
    ///   - location: the log file; nil when the container has no log.
    ///   - positionPath: where the position is kept across restarts of the daemon.
    /// - Throws: `SwiftletError(.failedPrecondition)` naming the file that cannot be opened.
    public init(location: LogLocation?, positionPath: String) throws {
        queue = DispatchQueue(label: "swiftlet.log")
        file = try LogFile(location: location, positionPath: positionPath)
    }

    /// Bytes of each source taken so far: what the file holds and the unfinished line in memory.
    public func received() async -> (stdout: UInt64, stderr: UInt64) {
        await onQueue { self.file.taken }
    }

    /// Writes what could not be written when it was appended.
    public func flush() async throws -> (stdout: UInt64, stderr: UInt64) {
        try await onQueueThrowing {
            try self.file.flush()
            return (self.file.position.stdout, self.file.position.stderr)
        }
    }

    /// Appends output; lines are written as they complete.
    ///
    /// - Returns: bytes of each source that the log file holds now. What an unfinished line holds is not in it.
    public func append(_ bytes: [UInt8], from source: LogSource) async throws -> (stdout: UInt64, stderr: UInt64) {
        try await onQueueThrowing {
            try self.file.append(bytes, from: source)
            self.reopenBetweenLines()
            return (self.file.position.stdout, self.file.position.stderr)
        }
    }

    /// Ends a source: an unfinished last line is written as a P piece.
    public func finish(_ source: LogSource) async throws -> (stdout: UInt64, stderr: UInt64) {
        try await onQueueThrowing {
            try self.file.finish(source)
            self.reopenBetweenLines()
            return (self.file.position.stdout, self.file.position.stderr)
        }
    }

    /// Goes on in the file that the log's path names now, after the old one was renamed.
    ///
    /// A line of several pieces that is under way stays whole in the old file, if it ends within two seconds.
    /// - Throws: `.failedPrecondition` when the new file cannot be opened, and the old one stays in use; or when the log is
    ///   closed.
    public func reopen() async throws {
        try await withCheckedThrowingContinuation { continuation in
            queue.async {
                self.reopening.append(continuation)
                self.reopenBetweenLines()
                guard !self.reopening.isEmpty else { return }
                self.queue.asyncAfter(deadline: .now() + Self.lineEnd) { self.reopenNow() }
            }
        }
    }

    private func reopenBetweenLines() {
        if !reopening.isEmpty, file.isBetweenLines { reopenNow() }
    }

    private func reopenNow() {
        guard !reopening.isEmpty else { return }
        let result = Result { try file.reopen() }
        for waiter in reopening { waiter.resume(with: result) }
        reopening = []
    }

    /// Closes the files. Later calls throw.
    public func close() async {
        await onQueue {
            // A process may end within a line; nothing more comes.
            self.reopenNow()
            self.file.close()
        }
    }

    private func onQueue<Value: Sendable>(_ body: @Sendable @escaping () -> Value) async -> Value {
        await withCheckedContinuation { continuation in
            queue.async { continuation.resume(returning: body()) }
        }
    }

    private func onQueueThrowing<Value: Sendable>(_ body: @Sendable @escaping () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            queue.async { continuation.resume(with: Result { try body() }) }
        }
    }
}

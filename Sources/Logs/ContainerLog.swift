import Concurrency
import Errors
import Logging
import Runtime

/// One container's log file in the CRI format.
///
/// File I/O runs on threads of its own, so that a slow disk holds up this log alone.
public actor ContainerLog: OutputSink {
    /// Threads of all logs. A log takes one only while it writes.
    private static let pool = BlockingPool("container logs", threads: 256)
    /// How long opening may take: a disk that hangs must not hold up whoever opens the log.
    private static let openLimit = Duration.seconds(20)
    /// How long a reopening waits for the end of a line that is written in part.
    private static let lineEnd = Duration.seconds(2)

    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    private let executor = BlockingExecutor(pool)
    private var file: LogFile
    /// Nil: nobody is told of rotations that fail.
    private let logger: Logger?
    /// Who waits for the log to be reopened.
    private var reopening: [CheckedContinuation<Void, any Error>] = []

    private init(_ file: LogFile, _ logger: Logger?) { (self.file, self.logger) = (file, logger) }

    /// Opens the log for appending and finds out how much of each source it already holds.
    ///
    /// - Parameters:
    ///   - location: the log file; nil when the container has no log.
    ///   - positionPath: where the position is kept across restarts of the daemon.
    ///   - rotation: nil: the file grows until somebody else renames it.
    /// - Throws: `.failedPrecondition` naming the file that cannot be opened; `.deadlineExceeded` when its disk does not answer.
    public static func open(
        location: LogLocation?, positionPath: String, rotation: LogRotation? = nil, logger: Logger? = nil
    ) async throws -> ContainerLog {
        let file = try await pool.run(
            "open \(location?.description ?? positionPath)", timeout: openLimit,
            discard: { file in
                var file = file
                file.close()
            }, { _ in try LogFile(location: location, positionPath: positionPath, rotation: rotation) })
        return ContainerLog(file, logger)
    }

    /// Gives the lines that are written from now on to a collector as well.
    func collect(_ collected: any CollectedLog) { file.collected = collected }

    /// What comes is a terminal's: see ``LogFile/readTerminal()``.
    func readTerminal() { file.readTerminal() }

    /// Bytes of each source taken so far: what the file holds and the unfinished line in memory.
    public func received() -> OutputOffsets { file.taken }

    /// Writes what could not be written when it was appended.
    public func flush() throws -> OutputOffsets {
        try file.flush()
        rotateIfFull()
        return file.position.offsets
    }

    /// Appends output; lines are written as they complete.
    ///
    /// - Returns: bytes of each source that the log file holds now. What an unfinished line holds is not in it.
    public func take(_ bytes: [UInt8], from source: StandardStream) throws -> OutputOffsets {
        try file.append(bytes, from: source)
        reopenBetweenLines()
        rotateIfFull()
        return file.position.offsets
    }

    /// Writes what a terminal's unfinished line has so far, as a piece of a line that goes on.
    public func writePart(of source: StandardStream) throws -> OutputOffsets {
        try file.writePart(of: source)
        return file.position.offsets
    }

    /// Counts bytes of a terminal that were lost before they came here. A line says how many.
    public func lose(_ count: UInt64, of source: StandardStream) throws -> OutputOffsets {
        try file.lose(count, of: source)
        reopenBetweenLines()
        rotateIfFull()
        return file.position.offsets
    }

    /// Takes bytes that are not to be written, but counted.
    ///
    /// - Returns: bytes of each source that are safe, those included.
    func drop(_ count: Int, from source: StandardStream) throws -> OutputOffsets {
        try file.drop(count, from: source)
        reopenBetweenLines()
        rotateIfFull()
        return file.position.offsets
    }

    /// Writes the lines that say how much was dropped.
    func nameDropped() throws { try file.nameDropped() }

    /// Ends a source: an unfinished last line is written and closed.
    public func finish(_ source: StandardStream) throws -> OutputOffsets {
        try file.finish(source)
        reopenBetweenLines()
        rotateIfFull()
        return file.position.offsets
    }

    /// Goes on in the file that the log's path names now, after the old one was renamed.
    ///
    /// A line of several pieces that is under way stays whole in the old file, if it ends within two seconds.
    /// - Throws: `.failedPrecondition` when the new file cannot be opened, and the old one stays in use; or when the log is
    ///   closed.
    public func reopen() async throws {
        try await withCheckedThrowingContinuation { continuation in
            reopening.append(continuation)
            reopenBetweenLines()
            guard !reopening.isEmpty else { return }
            Task {
                try? await Task.sleep(for: Self.lineEnd)
                reopenNow()
            }
        }
    }

    /// What is written is safe, rotated or not.
    private func rotateIfFull() {
        do {
            try file.rotateIfFull()
        } catch {
            logger?.warning("log not rotated", metadata: ["error": "\(error)"])
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
    public func close() {
        // A process may end within a line; nothing more comes.
        reopenNow()
        file.close()
    }
}

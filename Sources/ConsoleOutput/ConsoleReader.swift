import Errors
import Logging
import Runtime

/// Copies the consoles of machines to their logs. The file at which QEMU writes keeps what is not in a log, whoever is absent.
public struct ConsoleReader: OutputReader {
    private static let shortestPause = Duration.milliseconds(50)
    private static let longestPause = Duration.seconds(2)
    /// How long a line may be incomplete before its part is written: a prompt has no end of line.
    static let partAfter = Duration.milliseconds(300)

    private let logger: Logger

    public init(logger: Logger) { self.logger = logger }

    /// Goes on through whatever fails, until the end has come and all that the file holds is written.
    public func copy(from endpoint: OutputEndpoint, to sink: any OutputSink, until end: OutputEnd) async throws {
        guard case .console(let path, _) = endpoint else { throw SwiftletError(.notFound, "not a console") }
        var pause = Self.shortestPause
        var isTold = false
        while true {
            let began = ContinuousClock.now
            do {
                return try await copyOnce(path, to: sink, until: end)
            } catch {
                // A full disk, or a machine that QEMU has made no file for yet.
                try Task.checkCancellation()
                let isMissing = (error as? SwiftletError)?.code == .notFound
                if isMissing, end.hasCome {
                    for source in StandardStream.allCases { _ = try await sink.finish(source) }
                    return
                }
                logger.log(
                    level: isTold || isMissing ? .debug : .warning, "console interrupted",
                    metadata: ["console": "\(path)", "error": "\(error)"])
                isTold = isTold || !isMissing
                if .now - began > Self.longestPause { pause = Self.shortestPause }
                try await Task.sleep(for: pause)
                // The file comes with the machine, and what it says first is waited for.
                pause = isMissing ? Self.shortestPause : min(pause * 2, Self.longestPause)
            }
        }
    }

    /// The part of a line that waits for its end.
    private struct Part {
        private var since: ContinuousClock.Instant?

        /// - Parameter isNew: a line has ended since.
        mutating func change(isThere: Bool, isNew: Bool) {
            if !isThere { since = nil } else if isNew || since == nil { since = .now }
        }

        /// How long it may wait still; nil: there is none.
        var patience: Duration? { since.map { max(ConsoleReader.partAfter - ($0.duration(to: .now)), .zero) } }
    }

    private func copyOnce(_ path: String, to sink: any OutputSink, until end: OutputEnd) async throws {
        var safe = try await sink.flush().stdout
        let file = try await ConsoleFile.open(path)
        let wake = try FileWake(file)
        end.onCome { [weak wake] in wake?.wake() }
        // What the sink has taken and could not write yet, it writes itself.
        var (offset, released) = (await sink.received().stdout, UInt64(0))
        var part = Part()
        part.change(isThere: safe < offset, isNew: true)
        while true {
            try Task.checkCancellation()
            // Asked for first: what is in the file after the end has come is all.
            let isLast = end.hasCome
            switch try await file.piece(at: offset) {
            case .bytes(let bytes):
                let before = safe
                safe = try await sink.take(bytes, from: .stdout).stdout
                offset += UInt64(bytes.count)
                part.change(isThere: safe < offset, isNew: safe > before)
                released = try await file.release(before: safe, from: released)
            case .released(let count):
                safe = try await sink.lose(count, of: .stdout).stdout
                offset += count
                part.change(isThere: false, isNew: true)
                released = max(released, offset)
            case .end:
                if isLast {
                    for source in StandardStream.allCases { _ = try await sink.finish(source) }
                    return
                }
                if part.patience != .zero { await wake.wait(part.patience) }
            }
            if part.patience == .zero {
                safe = try await sink.writePart(of: .stdout).stdout
                part.change(isThere: false, isNew: true)
            }
        }
    }
}

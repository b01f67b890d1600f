import Logging
import Synchronization

/// What was logged, each line with its metadata and its error.
public final class RecordedLog: Sendable {
    private let state = Mutex<[String]>([])

    public init() {}

    public var lines: [String] { state.withLock { $0 } }

    public var handler: any LogHandler { Handler(log: self) }

    public var logger: Logger {
        var logger = Logger(label: "test") { _ in handler }
        logger.logLevel = .info
        return logger
    }

    private struct Handler: LogHandler {
        let log: RecordedLog
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.info

        subscript(metadataKey key: String) -> Logger.MetadataValue? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let line = "\(event.level) \(event.message) \(metadata) \(event.metadata ?? [:]) \(event.error.map { "\($0)" } ?? "")"
            log.state.withLock { $0.append(line) }
        }
    }
}

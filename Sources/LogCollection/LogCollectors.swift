import Errors
import Logging
import Runtime
import Synchronization

/// Where the lines of logs are to go.
public struct CollectionConfiguration: Sendable, Equatable {
    public static let defaultQueueBytes = 8 << 20

    /// A unix stream socket that a collector listens on.
    public var socket: String?
    public var otlp: OTLPConfiguration?
    /// Of each of the two.
    public var queueBytes: Int

    public init(socket: String? = nil, otlp: OTLPConfiguration? = nil, queueBytes: Int = defaultQueueBytes) {
        (self.socket, self.otlp, self.queueBytes) = (socket, otlp, queueBytes)
    }
}

/// What became of the lines that were for a collector.
public struct CollectorState: Sendable, Equatable {
    public let kind: String
    public let sentLines: Int
    public let droppedLines: Int
    /// Why it takes none at this moment.
    public let failure: String?
}

/// Gives the lines of all logs to collectors beside their files. No log waits for one, whatever it does.
///
/// Nothing is kept on disk: what waits is lost with the process.
public final class LogCollectors: LogCollector {
    private struct Running: Sendable {
        let target: CollectorTarget
        let queue: LineQueue
        let health: CollectorHealth
        let delivery: Task<Void, Never>
    }

    /// Bytes of lines that are taken into queues at once.
    static let pieceLimit = 64 << 10
    /// How long a collector that is not wanted any more may take for what waits.
    public static let patience = Duration.seconds(2)

    private let logger: Logger
    private let running = Mutex<[Running]>([])

    public init(logger: Logger) { self.logger = logger }

    /// Gives lines to these from now on. Those that are there already go on; others get what waits for them if they take it within
    /// ``patience``.
    public func configure(_ configuration: CollectionConfiguration) {
        var targets: [CollectorTarget] = []
        if let socket = configuration.socket { targets.append(.socket(socket)) }
        if let otlp = configuration.otlp { targets.append(.otlp(otlp)) }
        let gone = running.withLock { running in
            let gone = running.filter { !targets.contains($0.target) }
            running = targets.map { target in
                let kept = running.first { $0.target == target }
                kept?.queue.setCapacity(configuration.queueBytes)
                return kept ?? start(target, configuration.queueBytes)
            }
            return gone
        }
        Task { await Self.end(gone, within: Self.patience) }
    }

    private func start(_ target: CollectorTarget, _ capacity: Int) -> Running {
        var logger = logger
        logger[metadataKey: "collector"] = "\(target.description)"
        let health = CollectorHealth(logger: logger)
        let queue = LineQueue(capacity: capacity, overflowed: { health.overflowed() })
        let delivery = Task { await target.deliver(queue, health) }
        return Running(target: target, queue: queue, health: health, delivery: delivery)
    }

    public func collect(_ container: String, _ names: ContainerNames?) -> any CollectedLog {
        OpenLog(container: CollectedContainer(id: container, names: names), collectors: self)
    }

    fileprivate func take(_ lines: [UInt8], of container: CollectedContainer) {
        let queues = running.withLock { $0.map(\.queue) }
        guard !queues.isEmpty else { return }
        // Both queues hold the same bytes.
        for piece in lines.pieces(of: Self.pieceLimit) {
            for queue in queues { queue.append(piece, of: container) }
        }
    }

    fileprivate func end(_ container: CollectedContainer) {
        for queue in running.withLock({ $0.map(\.queue) }) { queue.end(container) }
    }

    public var states: [CollectorState] {
        running.withLock { $0 }.map {
            CollectorState(
                kind: $0.target.kind, sentLines: $0.health.sentLines, droppedLines: $0.queue.droppedLines, failure: $0.health.failure)
        }
    }

    /// Takes nothing more, and gives what waits to collectors that take it within the time.
    public func stop(within patience: Duration) async {
        let stopped = running.withLock { running in
            defer { running = [] }
            return running
        }
        await Self.end(stopped, within: patience)
    }

    private static func end(_ collectors: [Running], within patience: Duration) async {
        for collector in collectors { collector.queue.close() }
        let hurry = Task {
            try await Task.sleep(for: patience)
            for collector in collectors { collector.delivery.cancel() }
        }
        for collector in collectors { await collector.delivery.value }
        hurry.cancel()
    }
}

private final class OpenLog: CollectedLog {
    private let container: CollectedContainer
    private let collectors: LogCollectors

    init(container: CollectedContainer, collectors: LogCollectors) { (self.container, self.collectors) = (container, collectors) }

    deinit { collectors.end(container) }

    func take(_ lines: [UInt8]) { collectors.take(lines, of: container) }
}

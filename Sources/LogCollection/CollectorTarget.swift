/// A collector, and how lines get to it.
enum CollectorTarget: Sendable, Equatable {
    case socket(String)
    case otlp(OTLPConfiguration)

    var kind: String {
        switch self {
        case .socket: "socket"
        case .otlp: "otlp"
        }
    }

    /// For messages.
    var description: String {
        switch self {
        case .socket(let path): path
        case .otlp(let otlp): otlp.endpoint
        }
    }

    /// Gives the collector what comes into the queue, until the queue is closed and empty, or the task is cancelled.
    func deliver(_ queue: LineQueue, _ health: CollectorHealth) async {
        switch self {
        case .socket(let path): await SocketDelivery(path: path, queue: queue, health: health).run()
        case .otlp(let otlp): await OTLPDelivery(otlp, queue: queue, health: health).run()
        }
    }
}

/// How long attempts wait for each other: twice as long each time.
struct RetryPause {
    private let first: Duration
    private let longest: Duration
    private var next: Duration

    init(first: Duration, longest: Duration) { (self.first, self.longest, next) = (first, longest, first) }

    mutating func advance() -> Duration {
        defer { next = min(next * 2, longest) }
        return next
    }

    mutating func reset() { next = first }
}

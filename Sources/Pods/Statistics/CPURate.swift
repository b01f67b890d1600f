import Runtime

/// The rate at which a counter of CPU time grows, over intervals of at least a second.
struct CPURate: Sendable {
    /// Billionths of a CPU.
    private(set) var nanoCores: UInt64
    private var base: (usage: UInt64, at: ContinuousClock.Instant)

    /// Shorter ones say more about the moment of the question than about the container.
    static let shortest = Duration.seconds(1)

    /// - Parameters:
    ///   - usage: microseconds so far.
    ///   - age: how long it has been counting; the first rate is the average of that time.
    init(_ usage: UInt64, at now: ContinuousClock.Instant, age: Duration) {
        nanoCores = Self.rate(usage, age)
        base = (usage, now)
    }

    mutating func update(_ usage: UInt64, at now: ContinuousClock.Instant) {
        let interval = base.at.duration(to: now)
        guard interval >= Self.shortest else { return }
        nanoCores = Self.rate(usage - min(usage, base.usage), interval)
        base = (usage, now)
    }

    /// - Parameter usage: microseconds; a guest may say what it likes.
    private static func rate(_ usage: UInt64, _ interval: Duration) -> UInt64 {
        let seconds = Double(interval.components.seconds) + Double(interval.components.attoseconds) / 1e18
        guard seconds > 0 else { return 0 }
        return UInt64(min(Double(usage) * 1000 / seconds, 1e15))
    }
}

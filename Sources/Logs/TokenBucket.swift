/// How much may pass at a moment, without a clock: at most one second's worth at once, and the rate in the long run.
///
/// What passes is taken whole while anything is left, and the bucket may owe for it: no piece is too large to pass ever.
struct TokenBucket: Equatable {
    private let perSecond: Double
    private var level: Double
    private var last: Duration

    /// - Parameters:
    ///   - perSecond: more than 0.
    ///   - now: on the clock that later moments are of, which does not go backwards.
    init(perSecond: UInt64, now: Duration) {
        self.perSecond = Double(perSecond)
        (level, last) = (self.perSecond, now)
    }

    /// How long it takes until something may pass; zero: it may now.
    mutating func delay(at now: Duration) -> Duration {
        refill(now)
        guard level <= 0 else { return .zero }
        // At least a nanosecond: who waits for it does not ask again at the same moment.
        return .nanoseconds(1) + .seconds(min(-level / perSecond, Self.longestDelay))
    }

    mutating func take(_ amount: UInt64, at now: Duration) {
        refill(now)
        level -= Double(amount)
    }

    private mutating func refill(_ now: Duration) {
        guard now > last else { return }
        let seconds = (now - last) / .seconds(1)
        level = min(level + seconds * perSecond, perSecond)
        last = now
    }

    private static let longestDelay = 86_400.0
}

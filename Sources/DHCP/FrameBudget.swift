/// How many frames are read or sent: a burst, and so many a second.
struct FrameBudget: Sendable {
    let burst: Double
    let perSecond: Double
    private var left: Double
    private var last: ContinuousClock.Instant?

    init(burst: Double, perSecond: Double) {
        (self.burst, self.perSecond, left) = (burst, perSecond, burst)
    }

    /// Of answers: a client asks a handful of times in its life.
    static let answers = FrameBudget(burst: 16, perSecond: 4)
    /// Of frames of a guest that its filter lets through.
    static let requests = FrameBudget(burst: 32, perSecond: 16)

    mutating func take(at now: ContinuousClock.Instant) -> Bool {
        refill(now)
        guard left >= 1 else { return false }
        left -= 1
        return true
    }

    /// When there is half of the burst again: who has used it up is not looked at for each frame.
    mutating func refillTime(from now: ContinuousClock.Instant) -> ContinuousClock.Instant {
        refill(now)
        return now + .milliseconds(Int64(max(0, burst / 2 - left) / perSecond * 1000) + 1)
    }

    private mutating func refill(_ now: ContinuousClock.Instant) {
        if let last { left = min(burst, left + (now - last) / .seconds(1) * perSecond) }
        last = now
    }
}

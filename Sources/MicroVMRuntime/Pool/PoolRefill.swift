import Machines

/// Of which shape the next machine is made, and when.
struct PoolRefill {
    private struct Attempt {
        /// Of a shape whose last machine could not be made.
        var notBefore: ContinuousClock.Instant
        /// Until the attempt after the next, if that fails too.
        var pause: Duration
    }

    enum Decision: Equatable {
        case make(MachineExtent)
        /// Nil: until something changes.
        case wait(Duration?)
    }

    private let shapes: [PoolShape]
    private let configuration: PoolConfiguration
    private var attempts: [MachineExtent: Attempt] = [:]

    init(_ shapes: [PoolShape], _ configuration: PoolConfiguration) {
        self.shapes = shapes
        self.configuration = configuration
    }

    /// The shape of which the greatest part is missing, of those the one that was named first. One that cannot be made keeps no other waiting.
    ///
    /// - Parameters:
    ///   - waiting: machines by shape.
    ///   - quiet: from when on machines may be made; nil: not before something changes.
    func decision(_ waiting: [MachineExtent: Int], quiet: ContinuousClock.Instant?, now: ContinuousClock.Instant = .now) -> Decision {
        let missing = shapes.filter { waiting[$0.extent, default: 0] < $0.size }
        guard let quiet, !missing.isEmpty else { return .wait(nil) }
        let begins = missing.map { max(quiet, attempts[$0.extent]?.notBefore ?? quiet) }
        let due = zip(missing, begins).filter { $0.1 <= now }.map(\.0)
        let part = { (shape: PoolShape) in Double(waiting[shape.extent, default: 0]) / Double(shape.size) }
        if let next = due.min(by: { part($0) < part($1) }) { return .make(next.extent) }
        return .wait(begins.min().map { max(.milliseconds(1), now.duration(to: $0)) })
    }

    mutating func made(_ extent: MachineExtent) { attempts[extent] = nil }

    mutating func failed(_ extent: MachineExtent, now: ContinuousClock.Instant = .now) {
        let pause = attempts[extent]?.pause ?? configuration.firstPause
        attempts[extent] = Attempt(notBefore: now + pause, pause: min(pause * 2, configuration.longestPause))
    }

    /// The node has no memory for one: no attempt was made.
    mutating func postpone(_ extent: MachineExtent, by pause: Duration, now: ContinuousClock.Instant = .now) {
        let next = attempts[extent]?.pause ?? configuration.firstPause
        attempts[extent] = Attempt(notBefore: now + pause, pause: next)
    }
}

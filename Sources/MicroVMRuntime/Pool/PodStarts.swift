/// What pods do on the node that boots for the pool are to leave the CPUs to.
struct PodStarts: Sendable {
    private var underWay = 0
    private var lastEnd: ContinuousClock.Instant?
    /// Until when each pod that has started is expected to start its first container.
    private var expected: [String: ContinuousClock.Instant] = [:]

    mutating func begin() { underWay += 1 }

    mutating func end(now: ContinuousClock.Instant = .now) {
        underWay -= 1
        lastEnd = now
    }

    /// A pod has started, and its first container is to follow.
    mutating func expectContainer(of pod: String, within patience: Duration, now: ContinuousClock.Instant = .now) {
        expected[pod] = now + patience
    }

    /// The pod's first container has started, or none will.
    mutating func containerCame(to pod: String) { expected[pod] = nil }

    /// From when on machines may be made; nil: something is under way.
    ///
    /// - Parameter rest: from the last end on.
    mutating func quiet(after rest: Duration, now: ContinuousClock.Instant = .now) -> ContinuousClock.Instant? {
        expected = expected.filter { $0.value > now }
        guard underWay == 0 else { return nil }
        return [lastEnd.map { $0 + rest }, expected.values.max()].compactMap(\.self).max() ?? now
    }
}

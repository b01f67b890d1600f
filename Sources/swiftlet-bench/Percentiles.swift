/// Repeated measurements of one thing.
struct Samples: Sendable {
    private(set) var values: [Duration] = []

    var count: Int { values.count }
    var p50: Duration { percentile(50) }
    var p90: Duration { percentile(90) }
    var p99: Duration { percentile(99) }

    mutating func add(_ value: Duration) {
        values.append(value)
    }

    /// The nearest-rank percentile: the smallest sample that at least `percent` of all do not exceed. Zero without samples.
    func percentile(_ percent: Int) -> Duration {
        let rank = (values.count * percent + 99) / 100
        return values.isEmpty ? .zero : values.sorted()[max(rank, 1) - 1]
    }
}

extension Duration {
    var milliseconds: Double {
        let (seconds, attoseconds) = components
        return Double(seconds) * 1e3 + Double(attoseconds) / 1e15
    }
}

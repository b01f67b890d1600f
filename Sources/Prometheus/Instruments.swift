import CoreMetrics
import Synchronization

/// A number that a scrape shows.
protocol Instrument: AnyObject, Sendable {
    init(buckets: [Double])
    /// The lines of this instrument: the suffix of the name, a label of the line's own, the value.
    var samples: [Sample] { get }
}

struct Sample: Equatable {
    var suffix = ""
    var label: Label?
    var value: String
}

struct Label: Hashable, Comparable {
    var name: String
    var value: String

    static func < (one: Label, other: Label) -> Bool {
        (one.name, one.value) < (other.name, other.value)
    }
}

/// A total that only grows.
final class CounterInstrument: Instrument, CounterHandler, FloatingPointCounterHandler {
    private let total = Mutex<Double>(0)

    init(buckets: [Double]) {}

    var samples: [Sample] { [Sample(value: TextFormat.number(total.withLock { $0 }))] }

    func increment(by amount: Int64) { increment(by: Double(amount)) }

    func increment(by amount: Double) {
        guard amount >= 0 else { return }
        total.withLock { $0 += amount }
    }

    func reset() { total.withLock { $0 = 0 } }
}

/// A number that goes up and down.
final class GaugeInstrument: Instrument, MeterHandler, RecorderHandler {
    private let value = Mutex<Double>(0)

    init(buckets: [Double]) {}

    var samples: [Sample] { [Sample(value: TextFormat.number(value.withLock { $0 }))] }

    func set(_ value: Int64) { set(Double(value)) }
    func set(_ value: Double) { self.value.withLock { $0 = value } }
    func record(_ value: Int64) { set(Double(value)) }
    func record(_ value: Double) { set(value) }
    func increment(by amount: Double) { value.withLock { $0 += amount } }
    func decrement(by amount: Double) { value.withLock { $0 -= amount } }
}

/// How often values fell below each bound.
final class HistogramInstrument: Instrument, RecorderHandler, TimerHandler {
    private struct State {
        /// Of each bucket alone; behind the last one, what is above all bounds.
        var counts: [UInt64]
        var sum = 0.0
    }

    private let bounds: [Double]
    private let state: Mutex<State>

    init(buckets: [Double]) {
        bounds = buckets
        state = Mutex(State(counts: Array(repeating: 0, count: buckets.count + 1)))
    }

    var samples: [Sample] {
        let (counts, sum) = state.withLock { ($0.counts, $0.sum) }
        var samples: [Sample] = []
        var below: UInt64 = 0
        for (bound, count) in zip(bounds + [.infinity], counts) {
            below += count
            samples.append(Sample(suffix: "_bucket", label: Label(name: "le", value: TextFormat.number(bound)), value: "\(below)"))
        }
        samples.append(Sample(suffix: "_sum", value: TextFormat.number(sum)))
        samples.append(Sample(suffix: "_count", value: "\(below)"))
        return samples
    }

    func record(_ value: Int64) { record(Double(value)) }

    /// What is no number falls into no bucket.
    func record(_ value: Double) {
        guard !value.isNaN else { return }
        let bucket = bounds.firstIndex { value <= $0 } ?? bounds.count
        state.withLock { state in
            state.counts[bucket] += 1
            state.sum += value
        }
    }

    func recordNanoseconds(_ duration: Int64) { record(Double(duration) / 1e9) }
}

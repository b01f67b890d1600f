import CoreMetrics
import Synchronization

/// swift-metrics' instruments as a Prometheus server scrapes them.
///
/// A name and its dimensions stand for one instrument however often they are asked for. A name keeps the kind that it had first;
/// what asks for it as another kind gets an instrument that no scrape shows.
public final class PrometheusRegistry: MetricsFactory, Sendable {
    private enum Kind: String {
        case counter, gauge, histogram
    }

    private struct Family {
        let kind: Kind
        var children: [[Label]: any Instrument] = [:]
    }

    private let descriptions: [String: MetricDescription]
    private let families = Mutex<[String: Family]>([:])
    private let collectors = Mutex<[@Sendable () -> Void]>([])

    /// - Parameter descriptions: of the metrics that have a help text or buckets of their own.
    public init(_ descriptions: [MetricDescription] = []) {
        self.descriptions = Dictionary(descriptions.map { ($0.name, $0) }) { first, _ in first }
    }

    /// Calls `body` before each scrape: it sets what is counted only then. It must not block.
    public func collect(_ body: @escaping @Sendable () -> Void) {
        collectors.withLock { $0.append(body) }
    }

    /// Everything in the text format, sorted.
    public func text() -> String {
        for collect in collectors.withLock({ $0 }) { collect() }
        let families = families.withLock { $0 }
        return families.sorted { $0.key < $1.key }.map { name, family in
            let children = family.children.sorted { $0.key.lexicographicallyPrecedes($1.key) }
            return TextFormat.family(
                name, family.kind.rawValue, help: descriptions[name]?.help, children.map { ($0.key, $0.value.samples) })
        }.joined()
    }

    private func instrument<Result: Instrument>(
        _ kind: Kind, _ label: String, _ dimensions: [(String, String)], _ type: Result.Type = Result.self
    ) -> Result {
        let name = TextFormat.name(label, colons: true)
        let labels = dimensions.map { Label(name: TextFormat.name($0.0, colons: false), value: $0.1) }.sorted()
        let buckets = descriptions[name]?.buckets ?? MetricDescription.durations
        return families.withLock { families in
            var family = families[name] ?? Family(kind: kind)
            if family.kind == kind, let known = family.children[labels] as? Result { return known }
            let made = Result(buckets: buckets)
            guard family.kind == kind, family.children[labels] == nil else { return made }
            family.children[labels] = made
            families[name] = family
            return made
        }
    }

    private func remove(_ handler: AnyObject) {
        families.withLock { families in
            for (name, family) in families {
                guard let labels = family.children.first(where: { $0.value === handler })?.key else { continue }
                families[name]?.children[labels] = nil
                if family.children.count == 1 { families[name] = nil }
            }
        }
    }

    // MARK: MetricsFactory

    public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        instrument(.counter, label, dimensions, CounterInstrument.self)
    }

    public func makeFloatingPointCounter(label: String, dimensions: [(String, String)]) -> any FloatingPointCounterHandler {
        instrument(.counter, label, dimensions, CounterInstrument.self)
    }

    public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        instrument(.gauge, label, dimensions, GaugeInstrument.self)
    }

    public func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        guard aggregate else { return instrument(.gauge, label, dimensions, GaugeInstrument.self) }
        return instrument(.histogram, label, dimensions, HistogramInstrument.self)
    }

    public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        instrument(.histogram, label, dimensions, HistogramInstrument.self)
    }

    public func destroyCounter(_ handler: any CounterHandler) { remove(handler) }
    public func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) { remove(handler) }
    public func destroyMeter(_ handler: any MeterHandler) { remove(handler) }
    public func destroyRecorder(_ handler: any RecorderHandler) { remove(handler) }
    public func destroyTimer(_ handler: any TimerHandler) { remove(handler) }
}

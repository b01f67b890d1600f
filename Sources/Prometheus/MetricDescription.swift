/// The help text and the buckets of a metric.
public struct MetricDescription: Sendable {
    public var name: String
    /// One sentence.
    public var help: String
    /// Upper bounds of a histogram's buckets, ascending and finite.
    public var buckets: [Double]

    public init(_ name: String, _ help: String, buckets: [Double] = MetricDescription.durations) {
        self.name = name
        self.help = help
        self.buckets = buckets
    }

    /// Seconds: from a list that comes out of memory to a pull that takes minutes.
    public static let durations = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]
}

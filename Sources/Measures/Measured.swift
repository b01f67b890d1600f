import CoreMetrics

/// Runs `body`, counts it in `NAME_total` by result ("ok", "failed") and times it in `NAME_duration_seconds`.
///
/// - Parameter name: "swiftlet_image_pull".
public func measured<Value>(
    _ name: String, factory: any MetricsFactory = MetricsSystem.factory, isolation: isolated (any Actor)? = #isolation,
    _ body: () async throws -> Value
) async throws -> Value {
    let start = ContinuousClock.now
    func record(_ result: String) {
        Counter(label: "\(name)_total", dimensions: [("result", result)], factory: factory).increment()
        Timer(label: "\(name)_duration_seconds", factory: factory).record(ContinuousClock.now - start)
    }
    do {
        let value = try await body()
        record("ok")
        return value
    } catch {
        record("failed")
        throw error
    }
}

/// Counts one more in `NAME_total` by result.
///
/// - Parameter name: "swiftlet_pool_start".
public func counted(_ name: String, result: String, factory: any MetricsFactory = MetricsSystem.factory) {
    Counter(label: "\(name)_total", dimensions: [("result", result)], factory: factory).increment()
}

extension Timer {
    /// As swift-metrics' own, which brings Foundation along.
    public func record(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        let (nanoseconds, overflows) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        recordNanoseconds(overflows ? .max : nanoseconds + attoseconds / 1_000_000_000)
    }
}

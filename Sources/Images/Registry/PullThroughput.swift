import Concurrency
import Errors
import Synchronization

/// What the downloads of one pull bring together.
final class PullThroughput: Sendable {
    /// Readings in one window.
    private static let readings = 20

    private let least: LeastThroughput
    private let start = ContinuousClock.now
    private let meter: Mutex<ThroughputMeter>

    init(_ least: LeastThroughput) {
        self.least = least
        meter = Mutex(ThroughputMeter(least))
    }

    /// Bytes that one of the downloads has received.
    func add(_ bytes: Int) {
        meter.withLock { $0.add(bytes) }
    }

    /// Runs `download`; cancels it when the pull has brought too little.
    ///
    /// - Throws: what `download` throws, or `SwiftletError(.unavailable)` when the pull was too slow.
    func watch(_ step: String, _ download: @escaping @Sendable () async throws -> Void) async throws {
        guard least.bytes > 0 else { return try await download() }
        meter.withLock { $0.begin(at: ContinuousClock.now - start) }
        defer { meter.withLock { $0.end(at: ContinuousClock.now - start) } }
        try await withWatch({ [self] in try await judge(step) }, download)
    }

    private func judge(_ step: String) async throws -> Never {
        while true {
            try await Task.sleep(for: least.window / Self.readings)
            if let few = meter.withLock({ $0.shortfall(at: ContinuousClock.now - start) }) {
                throw SwiftletError(
                    .unavailable,
                    "\(step): too slow: the pull got \(few) bytes in the last \(least.window); at least \(least.bytes) are required")
            }
        }
    }
}

extension LeastThroughput {
    /// Runs `body`, the exchange of a small document, which must end within the time a download without any progress gets.
    func limit<Value: Sendable>(_ step: String, _ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
        guard bytes > 0 else { return try await body() }
        return try await withWatch(
            {
                try await Task.sleep(for: patience)
                throw SwiftletError(.unavailable, "\(step): not complete after \(patience)")
            }, body)
    }
}

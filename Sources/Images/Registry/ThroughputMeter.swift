import Errors
import Synchronization

/// Tells a download that trickles from one that is only slow. Pure: knows no clock.
struct ThroughputMeter {
    private let least: LeastThroughput
    /// Readings at the beginning of the window and since, by time since the start of the download.
    private var readings: [(at: Duration, bytes: UInt64)] = [(.zero, 0)]

    init(_ least: LeastThroughput) {
        self.least = least
    }

    /// Takes a reading, and returns how many bytes came in the last window if they are too few.
    ///
    /// - Parameters:
    ///   - bytes: received since the start.
    ///   - elapsed: since the start; not less than at the last call.
    mutating func shortfall(bytes: UInt64, elapsed: Duration) -> UInt64? {
        let begin = elapsed - least.window
        readings.append((elapsed, bytes))
        guard begin >= least.grace else { return nil }
        // The latest reading that the whole window lies behind stands for its beginning.
        if let first = readings.lastIndex(where: { $0.at <= begin }) { readings.removeFirst(first) }
        let received = bytes - readings[0].bytes
        return received < least.bytes ? received : nil
    }
}

/// Bytes a download has received. Counted by the download, read by who watches it.
final class ReceivedBytes: Sendable {
    private let value = Atomic<UInt64>(0)

    var count: UInt64 { value.load(ordering: .relaxed) }

    func add(_ bytes: Int) { value.add(UInt64(bytes), ordering: .relaxed) }
}

extension LeastThroughput {
    /// Readings in one window.
    private static let readings = 20

    /// Runs `body`, which counts what it receives; cancels it when that is too little.
    ///
    /// - Throws: what `body` throws, or `SwiftletError(.unavailable)` when it was too slow.
    func watch<Value: Sendable>(_ step: String, _ body: @escaping @Sendable (ReceivedBytes) async throws -> Value) async throws -> Value {
        let received = ReceivedBytes()
        guard bytes > 0 else { return try await body(received) }
        return try await first(body: { try await body(received) }) {
            var meter = ThroughputMeter(self)
            let clock = ContinuousClock()
            let start = clock.now
            while true {
                try await clock.sleep(for: window / Self.readings)
                if let few = meter.shortfall(bytes: received.count, elapsed: clock.now - start) {
                    throw SwiftletError(
                        .unavailable, "\(step): too slow: \(few) bytes in the last \(window); at least \(bytes) are required")
                }
            }
        }
    }

    /// Runs `body`, the exchange of a small document, which must end within the time a download without any progress gets.
    func limit<Value: Sendable>(_ step: String, _ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
        guard bytes > 0 else { return try await body() }
        return try await first(body: body) {
            try await ContinuousClock().sleep(for: patience)
            throw SwiftletError(.unavailable, "\(step): not complete after \(patience)")
        }
    }

    private func first<Value: Sendable>(
        body: @escaping @Sendable () async throws -> Value, watch: @escaping @Sendable () async throws -> Never
    ) async throws -> Value {
        try await withThrowingTaskGroup(of: Value.self) { group in
            defer { group.cancelAll() }
            group.addTask { try await body() }
            group.addTask { try await watch() }
            guard let value = try await group.next() else { throw CancellationError() }
            return value
        }
    }
}

import Concurrency
import Errors
import Testing

@Suite(.timeLimit(.minutes(1))) struct WatchTests {
    private static let forEver: @Sendable () async throws -> Never = {
        while true { try await Task.sleep(for: .seconds(3600)) }
    }

    @Test func aBodyThatEndsEndsItsWatch() async throws {
        #expect(try await withWatch(Self.forEver) { 7 } == 7)
        await #expect(throws: SwiftletError.self) { try await withWatch(Self.forEver) { throw SwiftletError(.internal, "no") } }
    }

    @Test func aWatchThatThrowsCancelsTheBodyAndWaitsForIt() async {
        let record = Record<String>()
        let error = await #expect(throws: SwiftletError.self) {
            try await withWatch({ throw SwiftletError(.unavailable, "too slow") }) {
                try? await Task.sleep(for: .seconds(3600))
                record.add("ended")
            }
        }
        #expect(error?.code == .unavailable && record.all == ["ended"])
    }
}

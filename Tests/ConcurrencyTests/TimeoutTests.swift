import Concurrency
import Errors
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(1))) struct TimeoutTests {
    @Test func anOperationThatTakesTooLongIsCancelled() async {
        let error = await #expect(throws: SwiftletError.self) {
            try await withTimeout(.milliseconds(20), "step") { try await Task.sleep(for: .seconds(3600)) }
        }
        #expect(error?.code == .deadlineExceeded && error?.message.contains("step") == true)
    }

    @Test func theCallersCancellationReachesTheOperation() async throws {
        let (begun, signal) = AsyncStream<Void>.makeStream()
        let wasCancelled = Mutex(false)
        let work = Task {
            try await withTimeout(.seconds(3600), "step") {
                signal.yield()
                do {
                    try await Task.sleep(for: .seconds(3600))
                } catch {
                    wasCancelled.withLock { $0 = true }
                    throw error
                }
            }
        }
        for await _ in begun { break }
        work.cancel()
        await #expect(throws: (any Error).self) { try await work.value }
        #expect(wasCancelled.withLock { $0 })
    }

    @Test func aResultInTimeIsReturnedWhateverTheLimit() async throws {
        #expect(try await withTimeout(.seconds(Int64.max), "step") { 7 } == 7)
    }
}

import Concurrency
import Errors
import Testing

@Suite(.timeLimit(.minutes(3))) struct DeadlineTests {
    @Test func anOperationThatIgnoresCancellationIsLeftBehind() async {
        let error = await #expect(throws: SwiftletError.self) {
            try await withDeadline(.milliseconds(50), "step") {
                await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
            }
        }
        #expect(error?.code == .deadlineExceeded && error?.message.hasPrefix("step:") == true)
    }

    /// A pod's grace period may be any number of seconds.
    @Test func aLimitBeyondTheClocksEndIsALongTime() async throws {
        for limit in [Duration.seconds(Int64.max), .seconds(Int64.max / 2), .nanoseconds(Int64.max)] {
            let work = Task { try await withDeadline(limit, "step") { for _ in 0..<100 { await Task.yield() } } }
            try await work.value
        }
    }

    @Test func aResultInTimeIsReturned() async throws {
        #expect(try await withDeadline(.seconds(60), "step") { 7 } == 7)
    }

    @Test func whatWasBegunIsNotInterruptedByItsCallersCancellation() async throws {
        let (door, began) = (Door(), Door())
        let work = Task {
            try await withDeadline(.seconds(60), "step") {
                began.open()
                await door.pass()
                return Task.isCancelled
            }
        }
        await began.pass()
        work.cancel()
        door.open()
        #expect(try await work.value == false)
    }

    @Test func uncancelledWorkDoesNotSeeItsCallersCancellation() async throws {
        let work = Task {
            while !Task.isCancelled { await Task.yield() }
            return try await uncancelled { Task.isCancelled }
        }
        work.cancel()
        #expect(try await work.value == false)
    }
}

import Synchronization
import Testing

@testable import Pods

@Suite struct BootTurnsTests {
    private final class Counts: Sendable {
        private let state = Mutex((now: 0, most: 0, done: 0))

        var most: Int { state.withLock { $0.most } }
        var done: Int { state.withLock { $0.done } }
        func begin() { state.withLock { ($0.now, $0.most) = ($0.now + 1, max($0.most, $0.now + 1)) } }
        func end() { state.withLock { ($0.now, $0.done) = ($0.now - 1, $0.done + 1) } }
    }

    @Test func noMoreThanItsNumberBootAtOnceAndAllGetTheirTurn() async throws {
        let turns = BootTurns(most: 2)
        let counts = Counts()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<50 {
                group.addTask {
                    defer { turns.leave("\(number)") }
                    try await turns.enter("\(number)")
                    counts.begin()
                    for _ in 0..<20 { await Task.yield() }
                    counts.end()
                    // As soon as it is up, and once more at the end.
                    turns.leave("\(number)")
                }
            }
            try await group.waitForAll()
        }
        #expect(counts.most <= 2 && counts.done == 50)
        #expect(turns.waiting == 0)
    }

    @Test func whoGivesUpLeavesTheQueue() async throws {
        let turns = BootTurns(most: 1)
        try await turns.enter("first")
        let second = Task { try await turns.enter("second") }
        while turns.waiting < 1 { await Task.yield() }
        let third = Task { try await turns.enter("third") }
        while turns.waiting < 2 { await Task.yield() }
        second.cancel()
        await #expect(throws: CancellationError.self) { try await second.value }
        turns.leave("second")
        turns.leave("first")
        try await third.value
        turns.leave("third")
        let late = Task {
            while !Task.isCancelled { await Task.yield() }
            try await turns.enter("late")
        }
        late.cancel()
        await #expect(throws: CancellationError.self) { try await late.value }
        turns.leave("late")
        try await turns.enter("last")
    }
}

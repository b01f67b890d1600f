import Errors
import Testing

@testable import Concurrency

@Suite(.timeLimit(.minutes(3))) struct AsyncSemaphoreTests {
    @Test func noMoreThanItsPermitsRunAtOnceAndAllGetTheirTurn() async throws {
        let (semaphore, load) = (AsyncSemaphore(permits: 3), Load())
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<500 {
                group.addTask {
                    try await semaphore.withPermit {
                        load.begin()
                        for _ in 0..<5 { await Task.yield() }
                        load.end()
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(load.most == 3 && load.done == 500)
        #expect(semaphore.waiting == 0 && semaphore.free == 3)
    }

    @Test func permitsGoToThoseWhoWaitInTheOrderInWhichTheyCame() async throws {
        let (semaphore, door, order) = (AsyncSemaphore(permits: 1), Door(), Record<Int>())
        let holder = Task { try await semaphore.withPermit { await door.pass() } }
        try await eventually("it holds the permit") { semaphore.free == 0 }
        var rest: [Task<Void, any Error>] = []
        for number in 0..<20 {
            rest.append(Task { try await semaphore.withPermit { order.add(number) } })
            try await eventually("\(number) waits") { semaphore.waiting == number + 1 }
        }
        door.open()
        for task in rest { try await task.value }
        try await holder.value
        #expect(order.all == Array(0..<20))
    }

    @Test func whoIsCancelledWhileWaitingLeavesTheQueueAtOnce() async throws {
        let (semaphore, door, order) = (AsyncSemaphore(permits: 1), Door(), Record<String>())
        let holder = Task { try await semaphore.withPermit { await door.pass() } }
        try await eventually("it holds the permit") { semaphore.free == 0 }
        let second = Task { try await semaphore.withPermit { order.add("second") } }
        try await eventually("the second waits") { semaphore.waiting == 1 }
        let third = Task { try await semaphore.withPermit { order.add("third") } }
        try await eventually("the third waits") { semaphore.waiting == 2 }
        second.cancel()
        await #expect(throws: CancellationError.self) { try await second.value }
        #expect(semaphore.waiting == 1)
        door.open()
        try await third.value
        try await holder.value
        #expect(order.all == ["third"] && semaphore.free == 1)
    }

    @Test func whoIsCancelledBeforeItComesGetsNoPermit() async throws {
        let semaphore = AsyncSemaphore(permits: 1)
        let late = Task {
            while !Task.isCancelled { await Task.yield() }
            try await semaphore.withPermit { _ = Issue.record("it ran") }
        }
        late.cancel()
        await #expect(throws: CancellationError.self) { try await late.value }
        #expect(semaphore.free == 1)
    }

    @Test func aBodyThatThrowsGivesItsPermitBack() async throws {
        let semaphore = AsyncSemaphore(permits: 1)
        await #expect(throws: SwiftletError.self) { try await semaphore.withPermit { throw SwiftletError(.internal, "no") } }
        #expect(try await semaphore.withPermit { 7 } == 7)
    }

    @Test func underCancellationsAtAnyMomentNoPermitIsLostAndNobodyWaitsForEver() async throws {
        let (semaphore, load) = (AsyncSemaphore(permits: 2), Load())
        let tasks = (0..<1000).map { number in
            Task {
                try await semaphore.withPermit {
                    load.begin()
                    if number.isMultiple(of: 3) { await Task.yield() }
                    load.end()
                }
            }
        }
        for (number, task) in tasks.enumerated() where !number.isMultiple(of: 3) {
            task.cancel()
            if number.isMultiple(of: 5) { await Task.yield() }
        }
        for task in tasks { _ = await task.result }
        #expect(load.most <= 2 && load.now == 0)
        #expect(load.done >= 334, "those that were not cancelled")
        #expect(semaphore.free == 2 && semaphore.waiting == 0)
    }
}

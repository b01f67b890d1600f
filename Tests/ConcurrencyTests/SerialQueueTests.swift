import Errors
import Testing

@testable import Concurrency

@Suite(.timeLimit(.minutes(3))) struct SerialQueueTests {
    @Test func workRunsOneAfterTheOtherInTheOrderInWhichItWasAskedFor() async throws {
        let (queue, door, order, load) = (SerialQueue(), Door(), Record<Int>(), Load())
        let first = Task { await queue.run { await door.pass() } }
        try await eventually("the first runs") { !queue.isIdle && queue.waiting == 0 }
        var rest: [Task<Void, Never>] = []
        for number in 0..<50 {
            rest.append(
                Task {
                    await queue.run {
                        load.begin()
                        await Task.yield()
                        order.add(number)
                        load.end()
                    }
                })
            try await eventually("\(number) waits") { queue.waiting == number + 1 }
        }
        #expect(order.all.isEmpty)
        door.open()
        for task in rest { await task.value }
        await first.value
        #expect(order.all == Array(0..<50) && load.most == 1)
        #expect(queue.waiting == 0)
    }

    @Test func aFailureIsItsCallersAndTheQueueGoesOn() async throws {
        let queue = SerialQueue()
        await #expect(throws: SwiftletError.self) { try await queue.run { throw SwiftletError(.internal, "no") } }
        #expect(await queue.run { 7 } == 7)
    }

    @Test func workWhoseCallerIsCancelledRunsInItsPlaceAndIsNotInterrupted() async throws {
        let (queue, door, order) = (SerialQueue(), Door(), Record<String>())
        let first = Task {
            await queue.run {
                await door.pass()
                order.add(Task.isCancelled ? "interrupted" : "first")
            }
        }
        try await eventually("the first runs") { !queue.isIdle && queue.waiting == 0 }
        let second = Task { await queue.run { order.add(Task.isCancelled ? "interrupted" : "second") } }
        try await eventually("the second waits") { queue.waiting == 1 }
        first.cancel()
        second.cancel()
        door.open()
        await first.value
        await second.value
        #expect(order.all == ["first", "second"])
    }

    @Test func drainedWaitsForWhatWasAskedForBefore() async throws {
        let (queue, door, order) = (SerialQueue(), Door(), Record<String>())
        await queue.drained()
        async let first: Void = queue.run {
            await door.pass()
            order.add("work")
        }
        try await eventually("it runs") { !queue.isIdle && queue.waiting == 0 }
        async let drained: Void = {
            await queue.drained()
            order.add("drained")
        }()
        door.open()
        _ = await (first, drained)
        #expect(order.all == ["work", "drained"])
    }

    @Test func workMayAskItsOwnQueueForMoreWithoutWaitingForIt() async throws {
        let (queue, order) = (SerialQueue(), Record<String>())
        let inner = await queue.run {
            let inner = queue.enqueue { order.add("inner") }
            order.add("outer")
            return inner
        }
        try await inner.value
        #expect(order.all == ["outer", "inner"])
    }

    @Test func underStressEachPieceRunsOnceAndNoneAtOnce() async throws {
        let (queue, load) = (SerialQueue(), Load())
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<2000 {
                group.addTask {
                    await queue.run {
                        load.begin()
                        if number.isMultiple(of: 7) { await Task.yield() }
                        load.end()
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(load.most == 1 && load.done == 2000 && queue.waiting == 0)
    }

    @Test func queuesOfDifferentKeysDoNotWaitForEachOtherAndAreForgottenWhenIdle() async throws {
        let (queues, door, order) = (SerialQueues<String>(), Door(), Record<String>())
        async let first: Void = queues.run("a") {
            await door.pass()
            order.add("first")
        }
        try await eventually("the first runs") { queues.keys == 1 && queues.waiting("a") == 0 }
        async let second: Void = queues.run("a") { order.add("second") }
        try await eventually("the second waits") { queues.waiting("a") == 1 }
        #expect(try await queues.run("b") { 7 } == 7)
        door.open()
        _ = try await (first, second)
        #expect(order.all == ["first", "second"])
        #expect(queues.keys == 0)
    }
}

import Errors
import Testing

@testable import Concurrency

@Suite(.timeLimit(.minutes(3))) struct FairSemaphoreTests {
    @Test func aPermitGoesToThePartyThatHoldsTheFewest() async throws {
        let (semaphore, order) = (FairSemaphore<String>(permits: 2), Record<String>())
        let doors = ["a1": Door(), "a2": Door()]
        func task(_ name: String) -> Task<Void, any Error> {
            Task {
                try await semaphore.withPermit(for: String(name.prefix(1))) {
                    order.add(name)
                    await doors[name]?.pass()
                }
            }
        }
        var tasks: [Task<Void, any Error>] = []
        for name in ["a1", "a2"] {
            tasks.append(task(name))
            try await eventually("\(name) holds a permit") { order.all.contains(name) }
        }
        for (count, name) in ["a3", "a4", "b1", "b2", "c1"].enumerated() {
            tasks.append(task(name))
            try await eventually("\(name) waits") { semaphore.waiting == count + 1 }
        }
        doors["a1"]?.open()
        try await eventually("all have had a permit") { order.all.count == 7 }
        // One permit, which each gives back at once: a holds the other all the time, b and c come first.
        #expect(order.all == ["a1", "a2", "b1", "b2", "c1", "a3", "a4"])
        doors["a2"]?.open()
        for task in tasks { try await task.value }
        #expect(semaphore.free == 2 && semaphore.waiting == 0 && semaphore.parties == 0)
    }

    @Test func noPartyGetsMoreThanItsShareThoughPermitsAreFree() async throws {
        let (semaphore, door, load) = (FairSemaphore<Int>(permits: 5, perParty: 2), Door(), Load())
        let tasks = (0..<6).map { _ in
            Task {
                try await semaphore.withPermit(for: 1) {
                    load.begin()
                    await door.pass()
                    load.end()
                }
            }
        }
        try await eventually("four wait") { semaphore.waiting == 4 }
        #expect(semaphore.free == 3 && load.now == 2)
        #expect(try await semaphore.withPermit(for: 2) { 7 } == 7)
        door.open()
        for task in tasks { try await task.value }
        #expect(load.most == 2 && load.done == 6 && semaphore.free == 5 && semaphore.parties == 0)
    }

    @Test func underCancellationsAtAnyMomentNoPermitIsLostAndNobodyWaitsForEver() async throws {
        let (semaphore, load) = (FairSemaphore<Int>(permits: 3, perParty: 2), Load())
        let tasks = (0..<1000).map { number in
            Task {
                try await semaphore.withPermit(for: number % 7) {
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
        #expect(load.most <= 3 && load.now == 0)
        #expect(load.done >= 334, "those that were not cancelled")
        #expect(semaphore.free == 3 && semaphore.waiting == 0 && semaphore.parties == 0)
    }
}

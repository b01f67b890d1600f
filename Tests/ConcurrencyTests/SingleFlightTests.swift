import Errors
import Synchronization
import Testing

@testable import Concurrency

@Suite(.timeLimit(.minutes(3))) struct SingleFlightTests {
    @Test func callersOfOneKeyShareOneRunAndItsOutcome() async throws {
        let (flights, door, runs) = (SingleFlight<String, Int>(whenAbandoned: .finish), Door(), Record<String>())
        let callers = (0..<10).map { _ in
            Task {
                try await flights.run("key") {
                    runs.add("key")
                    await door.pass()
                    return 7
                }
            }
        }
        try await eventually("all wait") { flights.waiting == 10 }
        #expect(try await flights.run("other") { 8 } == 8)
        #expect(flights.isRunning("key") && !flights.isRunning("other"))
        door.open()
        for caller in callers { #expect(try await caller.value == 7) }
        #expect(runs.all.count == 1 && flights.waiting == 0 && !flights.isRunning("key"))
    }

    @Test func aFailureGoesToAllWhoWaitAndTheNextCallWorksAnew() async throws {
        let (flight, door) = (SingleFlight<NoKey, Int>(whenAbandoned: .finish), Door())
        let callers = (0..<3).map { _ in
            Task {
                try await flight.run {
                    await door.pass()
                    throw SwiftletError(.unavailable, "no")
                }
            }
        }
        try await eventually("all wait") { flight.waiting == 3 }
        door.open()
        for caller in callers { await #expect(throws: SwiftletError.self) { try await caller.value } }
        #expect(try await flight.run { 7 } == 7)
        #expect(!flight.isRunning)
    }

    @Test(arguments: [false, true]) func workIsCancelledWithItsLastCallerOrNotAtAll(cancels: Bool) async throws {
        let (flight, door) = (SingleFlight<NoKey, Bool>(whenAbandoned: cancels ? .cancel : .finish), Door())
        let callers = (0..<2).map { _ in
            Task {
                try await flight.run {
                    await door.pass()
                    return Task.isCancelled
                }
            }
        }
        try await eventually("both wait") { flight.waiting == 2 }
        for caller in callers { caller.cancel() }
        #expect(flight.waiting == 2, "a cancelled caller waits for the end")
        door.open()
        for caller in callers { #expect(try await caller.value == cancels) }
    }

    @Test func whoJoinsWithinTheGraceKeepsTheWork() async throws {
        let (flight, door) = (SingleFlight<NoKey, Bool>(whenAbandoned: .cancelAfter(.milliseconds(300))), Door())
        let work: @Sendable () async throws -> Bool = {
            await door.pass()
            return Task.isCancelled
        }
        let first = Task { try await flight.run(work) }
        try await eventually("it waits") { flight.waiting == 1 }
        first.cancel()
        let second = Task { try await flight.run(work) }
        try await eventually("the second has joined") { flight.waiting == 2 }
        try await Task.sleep(for: .milliseconds(600))
        door.open()
        #expect(try await second.value == false)
        _ = await first.result

        let late = SingleFlight<NoKey, Bool>(whenAbandoned: .cancelAfter(.milliseconds(50)))
        let alone = Task {
            try await late.run {
                try await Task.sleep(for: .seconds(3600))
                return true
            }
        }
        try await eventually("it waits") { late.waiting == 1 }
        alone.cancel()
        await #expect(throws: CancellationError.self) { try await alone.value }
    }

    @Test func workGoesOnWhileOneCallerIsLeft() async throws {
        let (flight, door) = (SingleFlight<NoKey, Bool>(whenAbandoned: .cancel), Door())
        let work: @Sendable () async throws -> Bool = {
            await door.pass()
            return Task.isCancelled
        }
        let first = Task { try await flight.run(work) }
        let second = Task { try await flight.run(work) }
        try await eventually("both wait") { flight.waiting == 2 }
        first.cancel()
        door.open()
        #expect(try await second.value == false)
        _ = await first.result
    }

    @Test func whoComesAfterTheCancellationWorksAnewWhenTheCancelledWorkHasEnded() async throws {
        let (flight, door, load) = (SingleFlight<NoKey, String>(whenAbandoned: .cancel), Door(), Load())
        let first = Task {
            try await flight.run {
                load.begin()
                await door.pass()
                load.end()
                return "first"
            }
        }
        try await eventually("the first runs") { load.now == 1 }
        first.cancel()
        let second = Task {
            try await flight.run {
                load.begin()
                load.end()
                return Task.isCancelled ? "cancelled" : "second"
            }
        }
        try await eventually("both wait") { flight.waiting == 2 }
        door.open()
        #expect(try await second.value == "second")
        _ = await first.result
        #expect(load.most == 1 && load.done == 2)
    }

    @Test func cancelAllEndsEverything() async throws {
        let flights = SingleFlight<Int, Void>(whenAbandoned: .finish)
        let callers = (0..<5).map { key in
            Task { try await flights.run(key) { try await Task.sleep(for: .seconds(3600)) } }
        }
        try await eventually("all wait") { flights.waiting == 5 }
        await flights.cancelAll()
        for caller in callers { await #expect(throws: CancellationError.self) { try await caller.value } }
        #expect(!flights.isRunning(0))
    }

    @Test func workMayCallForAnotherKey() async throws {
        let flights = SingleFlight<Int, Int>(whenAbandoned: .cancel)
        let sum = try await flights.run(1) { try await flights.run(2) { 2 } + 1 }
        #expect(sum == 3)
        let outer = Task {
            try await flights.run(1) {
                try await flights.run(2) {
                    try await Task.sleep(for: .seconds(3600)); return 2
                }
            }
        }
        try await eventually("both run") { flights.isRunning(2) }
        outer.cancel()
        await #expect(throws: CancellationError.self) { try await outer.value }
    }

    @Test func underStressNoCallerIsLostAndNoKeyRunsTwiceAtOnce() async throws {
        let flights = SingleFlight<Int, Int>(whenAbandoned: .cancel)
        let loads = (0..<4).map { _ in Load() }
        let tasks = (0..<2000).map { number in
            Task {
                let key = number % 4
                return try await flights.run(key) {
                    loads[key].begin()
                    defer { loads[key].end() }
                    await Task.yield()
                    return key
                }
            }
        }
        for (number, task) in tasks.enumerated() where number.isMultiple(of: 3) { task.cancel() }
        for (number, task) in tasks.enumerated() { #expect(try await task.value == number % 4) }
        #expect(loads.allSatisfy { $0.most == 1 } && flights.waiting == 0)
    }
}

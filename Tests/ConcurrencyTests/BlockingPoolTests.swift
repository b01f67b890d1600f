import Dispatch
import Errors
import Synchronization
import Testing

@testable import Concurrency

@Suite(.timeLimit(.minutes(3))) struct BlockingPoolTests {
    @Test func callsRunOnNoMoreThreadsThanItsNumberAndAllAreAnswered() async throws {
        let (pool, load) = (BlockingPool("test", threads: 6), Load())
        defer { pool.close() }
        let sum = try await withThrowingTaskGroup(of: Int.self) { group in
            for value in 0..<1000 {
                group.addTask {
                    try await pool.run("count") { _ in
                        load.begin()
                        defer { load.end() }
                        return value
                    }
                }
            }
            return try await group.reduce(0, +)
        }
        #expect(sum == 999 * 1000 / 2 && load.most <= 6)
    }

    @Test func hungCallsDoNotHoldUpOthersAndTheirThreadsEndWhenTheyReturn() async throws {
        let pool = BlockingPool("test", threads: 4)
        defer { pool.close() }
        let gate = DispatchSemaphore(value: 0)
        await withTaskGroup(of: SwiftletError.Code?.self) { group in
            // More than there are threads: the others get the threads that replace the hung ones, or expire in the queue.
            for _ in 0..<12 {
                group.addTask {
                    do {
                        try await pool.run("hang", timeout: .milliseconds(50)) { _ in gate.wait() }
                        return nil
                    } catch {
                        return (error as? SwiftletError)?.code
                    }
                }
            }
            for await code in group { #expect(code == .deadlineExceeded) }
        }
        #expect(try await pool.run("answer", timeout: .seconds(30)) { _ in 7 } == 7)
        for _ in 0..<12 { gate.signal() }
        try await eventually("no thread hangs") { pool.threads.hung == 0 && pool.threads.all <= 4 }
    }

    @Test func whenTooManyHangNewCallsAreRefusedUntilOneReturns() async throws {
        let pool = BlockingPool("test", threads: 1, mostHung: 2)
        defer { pool.close() }
        let gate = DispatchSemaphore(value: 0)
        for _ in 0..<2 {
            await #expect(throws: SwiftletError.self) { try await pool.run("hang", timeout: .milliseconds(20)) { _ in gate.wait() } }
        }
        try await eventually("two hang") { pool.threads.hung == 2 }
        let error = await #expect(throws: SwiftletError.self) { try await pool.run("refused") { _ in } }
        #expect(error?.code == .unavailable && error?.message.contains("2 calls hang") == true)
        gate.signal()
        try await eventually("one hangs") { pool.threads.hung == 1 }
        #expect(try await pool.run("answer") { _ in 7 } == 7)
        gate.signal()
    }

    @Test func aCallKnowsThatNobodyWaitsOrThatItsCallerWasCancelled() async throws {
        let pool = BlockingPool("test", threads: 2)
        defer { pool.close() }
        let (gate, abandoned) = (DispatchSemaphore(value: 0), AsyncStream.makeStream(of: Bool.self))
        await #expect(throws: SwiftletError.self) {
            try await pool.run("late", timeout: .milliseconds(20), discard: { abandoned.continuation.yield($0) }) { call in
                gate.wait()
                return call.isAbandoned && call.isCancelled
            }
        }
        gate.signal()
        var iterator = abandoned.stream.makeAsyncIterator()
        #expect(await iterator.next() == true, "what it returned was discarded")

        let began = Door()
        let caller = Task {
            try await pool.run("cancelled") { call in
                began.open()
                gate.wait()
                return call.isCancelled && !call.isAbandoned
            }
        }
        await began.pass()
        caller.cancel()
        gate.signal()
        #expect(try await caller.value)
    }

    @Test func aClosedPoolFinishesItsQueueLetsItsThreadsEndAndTakesNoMore() async throws {
        let (pool, load) = (BlockingPool("test", threads: 1), Load())
        let gate = DispatchSemaphore(value: 0)
        let callers = (0..<5).map { value in
            Task {
                try await pool.run("work") { _ in
                    load.begin()
                    gate.wait()
                    return value
                }
            }
        }
        try await eventually("one runs and the others wait") { load.now == 1 && pool.queued == 4 }
        pool.close()
        for _ in 0..<5 { gate.signal() }
        for (value, caller) in callers.enumerated() { #expect(try await caller.value == value) }
        let error = await #expect(throws: SwiftletError.self) { try await pool.run("closed") { _ in } }
        #expect(error?.code == .unavailable)
        try await eventually("its threads have ended") { pool.threads.all == 0 }
    }

    @Test func threadsThatFewCallsNeedAreGivenBack() async throws {
        let pool = BlockingPool("test", threads: 32)
        defer { pool.close() }
        let (gate, load) = (DispatchSemaphore(value: 0), Load())
        for _ in 0..<32 {
            try pool.submit {
                load.begin()
                gate.wait()
                load.end()
            }
        }
        try await eventually("all run") { load.now == 32 }
        for _ in 0..<32 { gate.signal() }
        try await eventually("few are kept") { load.done == 32 && pool.threads.all <= 4 }
    }

    @Test func jobsThatNobodyWaitsForAllRun() async throws {
        let (pool, load) = (BlockingPool("test", threads: 3), Load())
        defer { pool.close() }
        for _ in 0..<2000 {
            try pool.submit {
                load.begin()
                load.end()
            }
        }
        try await eventually("all ran") { load.done == 2000 }
        #expect(load.most <= 3)
    }
}

/// An actor whose methods block.
private actor Diary {
    private let executor: BlockingExecutor
    private var lines: [Int] = []
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    init(_ pool: BlockingPool) { executor = BlockingExecutor(pool) }

    func add(_ line: Int) -> Int {
        lines.append(line)
        return lines.count
    }

    func block(on gate: DispatchSemaphore, _ began: Door) {
        began.open()
        gate.wait()
    }

    var all: [Int] { lines }
}

@Suite(.timeLimit(.minutes(3))) struct BlockingExecutorTests {
    @Test func anActorsMethodsRunOneAtATimeAndInOrderForEachCaller() async throws {
        let pool = BlockingPool("test", threads: 8)
        defer { pool.close() }
        let diary = Diary(pool)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<20 {
                group.addTask { for line in 0..<100 { _ = await diary.add(writer * 100 + line) } }
            }
            try await group.waitForAll()
        }
        let lines = await diary.all
        #expect(lines.count == 2000 && Set(lines).count == 2000)
        for writer in 0..<20 { #expect(lines.filter { $0 / 100 == writer } == Array(writer * 100..<writer * 100 + 100)) }
    }

    @Test func anActorThatBlocksHoldsUpNeitherOthersNorTheCooperativePool() async throws {
        let pool = BlockingPool("test", threads: 64)
        defer { pool.close() }
        let (gate, blocked) = (DispatchSemaphore(value: 0), (0..<32).map { _ in (Diary(pool), Door()) })
        let tasks = blocked.map { diary, began in Task { await diary.block(on: gate, began) } }
        // More than the cooperative pool has threads.
        for (_, began) in blocked { await began.pass() }
        #expect(await Diary(pool).add(1) == 1)
        for _ in tasks { gate.signal() }
        for task in tasks { await task.value }
    }
}

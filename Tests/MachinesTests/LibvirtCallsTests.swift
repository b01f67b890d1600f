import Dispatch
import Errors
import Synchronization
import Testing

@testable import Machines

struct LibvirtCallsTests {
    @Test func hungCallsDoNotHoldUpOthers() async throws {
        let calls = LibvirtCalls()
        let gate = DispatchSemaphore(value: 0)
        await withTaskGroup(of: SwiftletError.Code?.self) { group in
            // More than there are threads.
            for _ in 0..<12 {
                group.addTask {
                    do {
                        try await calls.run("hang", timeout: .milliseconds(50)) { _ in gate.wait() }
                        return nil
                    } catch {
                        return (error as? SwiftletError)?.code
                    }
                }
            }
            for await code in group { #expect(code == .deadlineExceeded) }
        }
        #expect(try await calls.run("answer", timeout: .seconds(30)) { _ in 7 } == 7)
        for _ in 0..<12 { gate.signal() }
        calls.close()
    }

    @Test func aCallKnowsThatNobodyWaits() async throws {
        let calls = LibvirtCalls()
        let (gate, done) = (DispatchSemaphore(value: 0), AsyncStream.makeStream(of: Bool.self))
        await #expect(throws: SwiftletError.self) {
            try await calls.run("late", timeout: .milliseconds(20)) { ticket in
                gate.wait()
                done.continuation.yield(ticket.isAbandoned)
            }
        }
        gate.signal()
        var iterator = done.stream.makeAsyncIterator()
        #expect(await iterator.next() == true)
        calls.close()
    }

    @Test func manyCallsAreAllAnswered() async throws {
        let calls = LibvirtCalls()
        let sum = try await withThrowingTaskGroup(of: Int.self) { group in
            for value in 0..<500 { group.addTask { try await calls.run("count", timeout: .seconds(60)) { _ in value } } }
            return try await group.reduce(0, +)
        }
        #expect(sum == 499 * 500 / 2)
        calls.close()
        await #expect(throws: SwiftletError.self) { try await calls.run("closed", timeout: .seconds(1)) { _ in } }
    }
}

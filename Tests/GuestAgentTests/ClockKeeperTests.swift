import AgentClient
import Errors
import Synchronization
import Testing

@testable import GuestAgent

/// The times that a guest was given.
private final class GivenTimes: Sendable {
    private let stream = AsyncStream<Int64>.makeStream()

    func take(_ time: Int64) { stream.continuation.yield(time) }

    /// As they come.
    var times: AsyncStream<Int64> { stream.stream }
}

/// The host's half of the guest's clock.
@Suite(.timeLimit(.minutes(2))) struct ClockKeeperTests {
    /// Counts up from 1, so that a test knows each call by its time.
    private final class CountingClock: Sendable {
        private let count = Atomic<Int64>(0)
        func now() -> Int64 { count.add(1, ordering: .relaxed).newValue }
        var last: Int64 { count.load(ordering: .relaxed) }
    }

    private let given = GivenTimes()
    private let clock = CountingClock()

    @Test func theGuestGetsTheTimeAgainAndAgain() async throws {
        let guest = try TestGuest(setTime: { [given] time throws(SwiftletError) in given.take(time) })
        let client = try await guest.connect()
        let keeper = ClockKeeper(interval: .milliseconds(5), now: clock.now) { client }
        let task = Task { await keeper.run(atOnce: true) }
        var times = given.times.makeAsyncIterator()
        for expected in 1...5 { #expect(await times.next() == Int64(expected)) }
        task.cancel()
        await task.value
    }

    @Test func aGuestThatIsFrozenHasOneCallAndGetsTheRightTimeAtOnceWhenItGoesOn() async throws {
        let (frozen, go) = (Flag(), try Latch())
        let guest = try TestGuest(setTime: { [given] time throws(SwiftletError) in
            // The agent's event loop stands still, as in a guest that is paused.
            if time == 1 {
                frozen.raise()
                go.wait()
            }
            given.take(time)
        })
        let client = try await guest.connect()
        // So long that the second call cannot be the next regular one.
        let keeper = ClockKeeper(interval: .seconds(3600), now: clock.now) { client }
        let task = Task { await keeper.run(atOnce: true) }
        await frozen.wait()
        try await Task.sleep(for: .seconds(1))
        #expect(clock.last == 1)
        go.open()
        var times = given.times.makeAsyncIterator()
        #expect(await times.next() == 1)
        #expect(await times.next() == 2)
        task.cancel()
        await task.value
    }

    @Test func aGuestThatRefusesTheTimeIsAskedNoMoreOften() async throws {
        let guest = try TestGuest(setTime: { [given] time throws(SwiftletError) in
            given.take(time)
            throw SwiftletError(.invalidArgument, "my clock says \(Int64.max)")
        })
        let client = try await guest.connect()
        let keeper = ClockKeeper(interval: .seconds(3600), now: clock.now) { client }
        let task = Task { await keeper.run(atOnce: true) }
        var times = given.times.makeAsyncIterator()
        #expect(await times.next() == 1)
        // The client serves other calls as before.
        #expect(try await client.call(.getInfo, .init(), timeout: .seconds(20)).version == "test")
        #expect(clock.last == 1)
        task.cancel()
        await task.value
    }

    @Test func itEndsWithTheConnection() async throws {
        let keeper = ClockKeeper(interval: .seconds(3600), now: clock.now) { nil }
        await keeper.run(atOnce: true)
        #expect(clock.last == 0)
    }

    @Test func aLostConnectionIsMadeAgainAndTheTimeSetAtOnce() async throws {
        let guest = try TestGuest(setTime: { [given] time throws(SwiftletError) in given.take(time) })
        let first = try await guest.connect()
        let isFirst = Atomic(true)
        let keeper = ClockKeeper(interval: .seconds(3600), now: clock.now) {
            guard isFirst.exchange(false, ordering: .relaxed) else { return try await guest.connect() }
            first.close()
            return first
        }
        let task = Task { await keeper.run(atOnce: true) }
        var times = given.times.makeAsyncIterator()
        #expect(await times.next() == 2)
        task.cancel()
        await task.value
    }
}

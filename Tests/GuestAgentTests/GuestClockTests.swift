import AgentProtocol
import Errors
import Synchronization
import Testing

@testable import GuestAgent

@Suite struct GuestClockTests {
    private static let second: Int64 = 1_000_000_000
    private static let today: Int64 = 1_800_000_000 * second

    @Test(arguments: [0, 1, -1, 127_000_000, -127_000_000, -1_900_000_000] as [Int64])
    func aSmallDifferenceIsTakenAwayGradually(difference: Int64) {
        #expect(GuestClock.correction(now: Self.today, host: Self.today + difference) == .slew(difference))
    }

    @Test(arguments: [128_000_000, second, -2 * second, 86_400 * second, -86_400 * second, .max - today] as [Int64])
    func aLargeDifferenceIsTakenAwayAtOnce(difference: Int64) {
        #expect(GuestClock.correction(now: Self.today, host: Self.today + difference) == .step)
    }

    @Test func aClockBeyondAllTimeIsSetAtOnce() {
        #expect(GuestClock.correction(now: .min, host: Self.today) == .step)
    }

    @Test(arguments: [0, -1, .min] as [Int64]) func aTimeBefore1970IsRefused(time: Int64) {
        let error = #expect(throws: SwiftletError.self) { try GuestClock.correct(to: time) }
        #expect(error?.code == .invalidArgument)
        #expect(throws: SwiftletError.self) { try GuestClock.set(time) }
    }
}

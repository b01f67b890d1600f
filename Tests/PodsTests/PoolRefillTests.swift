import Machines
import Testing

@testable import MicroVMRuntime

@Suite struct PoolRefillTests {
    private static let small = MachineExtent(memoryBytes: 128 << 20, vcpus: 1)
    private static let large = MachineExtent(memoryBytes: 1 << 30, vcpus: 2)
    private static let now = ContinuousClock.now

    private static func refill(_ sizes: [(MachineExtent, Int)] = [(small, 4), (large, 2)]) -> PoolRefill {
        PoolRefill(sizes.map { PoolShape(extent: $0, size: $1) }, PoolConfiguration())
    }

    @Test func theShapeOfWhichTheGreatestPartIsMissingIsMadeNext() {
        let refill = Self.refill()
        func next(_ small: Int, _ large: Int) -> PoolRefill.Decision {
            refill.decision([Self.small: small, Self.large: large], quiet: Self.now, now: Self.now)
        }
        #expect(next(0, 0) == .make(Self.small))
        #expect(next(1, 0) == .make(Self.large) && next(1, 1) == .make(Self.small) && next(2, 1) == .make(Self.small))
        #expect(next(3, 1) == .make(Self.large) && next(3, 2) == .make(Self.small) && next(4, 1) == .make(Self.large))
        #expect(next(4, 2) == .wait(nil) && next(5, 3) == .wait(nil))
    }

    @Test func aShapeThatCannotBeMadeKeepsNoOtherWaiting() {
        var refill = Self.refill()
        func next(_ small: Int, _ large: Int, after: Duration) -> PoolRefill.Decision {
            refill.decision([Self.small: small, Self.large: large], quiet: Self.now, now: Self.now + after)
        }
        refill.failed(Self.small, now: Self.now)
        #expect(next(0, 1, after: .zero) == .make(Self.large))
        #expect(next(0, 2, after: .zero) == .wait(.seconds(1)))
        #expect(next(0, 2, after: .seconds(1)) == .make(Self.small))
        refill.failed(Self.small, now: Self.now)
        #expect(next(0, 2, after: .zero) == .wait(.seconds(2)), "twice as long")
        refill.postpone(Self.small, by: .seconds(10), now: Self.now)
        #expect(next(0, 2, after: .zero) == .wait(.seconds(10)))
        refill.failed(Self.small, now: Self.now)
        #expect(next(0, 2, after: .zero) == .wait(.seconds(4)), "as no attempt was made in between")
        for _ in 0..<20 { refill.failed(Self.small, now: Self.now) }
        #expect(next(0, 2, after: .zero) == .wait(.seconds(300)))
        refill.made(Self.small)
        refill.failed(Self.small, now: Self.now)
        #expect(next(0, 2, after: .zero) == .wait(.seconds(1)))
    }

    @Test func nothingIsMadeWhileAPodStartsOrHasJustStarted() {
        let refill = Self.refill()
        #expect(refill.decision([:], quiet: nil, now: Self.now) == .wait(nil))
        #expect(refill.decision([:], quiet: Self.now + .seconds(2), now: Self.now) == .wait(.seconds(2)))
        #expect(refill.decision([:], quiet: Self.now, now: Self.now + .milliseconds(1)) == .make(Self.small))
    }

    @Test func machinesAreMadeOncePodsHaveTheirFirstContainers() {
        var starts = PodStarts()
        func quiet(_ seconds: Double) -> Duration? {
            starts.quiet(after: .seconds(2), now: Self.now + .seconds(seconds)).map { Self.now.duration(to: $0) }
        }
        #expect(quiet(0) == .zero)
        starts.begin()
        starts.begin()
        starts.end(now: Self.now)
        #expect(quiet(60) == nil, "one is under way")
        starts.end(now: Self.now)
        #expect(quiet(0) == .seconds(2))
        starts.expectContainer(of: "a", within: .seconds(5), now: Self.now)
        starts.expectContainer(of: "b", within: .seconds(5), now: Self.now + .seconds(1))
        #expect(quiet(2) == .seconds(6), "the last of them")
        starts.containerCame(to: "b")
        #expect(quiet(2) == .seconds(5))
        starts.begin()
        #expect(quiet(3) == nil, "the container of one starts")
        starts.end(now: Self.now + .seconds(3))
        starts.containerCame(to: "a")
        #expect(quiet(3) == .seconds(5), "it has rest")
        starts.expectContainer(of: "c", within: .seconds(5), now: Self.now + .seconds(3))
        #expect(quiet(7) == .seconds(8) && quiet(9) == .seconds(5), "none came in time")
    }
}

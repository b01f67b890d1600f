import Machines
import Testing

@testable import MicroVMRuntime
@testable import Pods
@testable import Runtime

@Suite struct MachineSizeCacheTests {
    private static func extent(_ gibibytes: UInt64, _ vcpus: Int = 1) -> MachineExtent {
        MachineExtent(memoryBytes: gibibytes << 30, vcpus: vcpus)
    }

    @Test func aGrowthThatFailedLeavesNothingKnown() {
        var known = MachineSizeCache(MachineSize(asked: Self.extent(1), actual: Self.extent(1)))
        known.failed()
        #expect(known.size == nil)
        // The way back asks for less, and libvirt says what the failed one left.
        let size = known.ended(known.begin(), asked: Self.extent(1), Self.extent(2))
        #expect(size == MachineSize(asked: Self.extent(1), actual: Self.extent(2)))
        #expect(known.size == size)
    }

    @Test func aLateEndOfAnEarlierGrowthTakesNothingBack() {
        var known = MachineSizeCache(MachineSize(asked: Self.extent(1), actual: Self.extent(1)))
        let (early, later) = (known.begin(), known.begin())
        _ = known.ended(later, asked: Self.extent(3, 2), Self.extent(3))
        let late = known.ended(early, asked: Self.extent(2, 4), Self.extent(2))
        #expect(late == MachineSize(asked: Self.extent(3, 4), actual: Self.extent(3)))
        #expect(known.size == late)
    }

    @Test func whatWasSaidBeforeAnotherFailedIsNotKept() {
        var known = MachineSizeCache()
        let early = known.begin()
        known.failed()
        #expect(known.ended(early, asked: Self.extent(2), Self.extent(2)).actual == Self.extent(2))
        #expect(known.size == nil)
    }
}

import Testing

@testable import Runtime

/// A guest may report any number. None of them may end the daemon, as an overflow does.
@Suite(.timeLimit(.minutes(1))) struct GuestCountTests {
    @Test func aCountStaysWithinItsBounds() {
        var cpu = CPUUsage()
        cpu.usageUs = .max
        cpu.quotaUs = .max
        #expect(cpu.usageUs == GuestCount.most && cpu.quotaUs == GuestCount.most)
        #expect(Int64(cpu.usageUs) * 1000 > 0, "a unit that is a thousand times smaller fits")
        cpu.usageUs = 5
        cpu.quotaUs = nil
        #expect(cpu.usageUs == 5 && cpu.quotaUs == nil)
        #expect(CPUUsage.with { $0.usageUs = .max } == CPUUsage.with { $0.usageUs = .max - 1 })
    }

    /// Also those that somebody adds.
    @Test func everyFigureOfAGuestIsSuchACount() {
        let groups: [any UsageGroup] = [
            SandboxFigures(), ContainerFigures(), CgroupUsage(), CPUUsage(), MemoryUsage(), BlockIOUsage(), PressureUsage(), Pressure(),
            HugepageUsage(), LayerUsage(), ProcessUsage(), DiskUsage(), InterfaceUsage(),
        ]
        let raw: [Any.Type] = [UInt64.self, UInt64?.self, Int64.self, Int64?.self, Int.self, Int?.self]
        for group in groups {
            for field in Mirror(reflecting: group).children {
                let type = Mirror(reflecting: field.value).subjectType
                #expect(!raw.contains { $0 == type }, "\(Swift.type(of: group)).\(field.label ?? "") is not a GuestCount")
            }
        }
    }
}

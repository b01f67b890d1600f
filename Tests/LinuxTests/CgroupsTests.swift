import Errors
import Testing

@testable import Linux

@Suite struct CgroupsTests {
    @Test func thisMachinesLayoutIsFound() throws {
        let cgroups = try Cgroups.detect()
        switch cgroups.layout {
        case .v2: #expect(cgroups.hierarchies == ["unified": "/sys/fs/cgroup"])
        case .v1, .hybrid: #expect(cgroups.hierarchies["memory"] == "/sys/fs/cgroup/memory")
        }
    }

    @Test func aPlaceWithoutControlGroupsIsSaidToHaveNone() {
        #expect { try Cgroups.detect(root: "/usr") } throws: { ($0 as? SwiftletError)?.code == .failedPrecondition }
        #expect { try Cgroups.detect(root: "/nonexistent") } throws: { ($0 as? SwiftletError)?.code == .notFound }
    }
}

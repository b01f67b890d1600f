import Linux
import Testing

@testable import HostRuntime

@Suite(.timeLimit(.minutes(1))) struct ContainerCgroupTests {
    /// The groups of a container are known before its runtime makes them: each hierarchy once, by what it is.
    @Test func groupsAreKnownBeforeTheyAreMade() throws {
        let cgroups = try Cgroups.detect()
        let planned = try ContainerCgroup.planned("c1", below: "/kubepods/pod1", usesSystemd: false, on: cgroups)
        #expect(!planned.isEmpty && planned.allSatisfy { $0.path.hasSuffix("/kubepods/pod1/c1") })
        #expect(Set(planned.map(\.path)).count == planned.count)
        #expect(planned.filter(\.isUnified).count == (cgroups.hierarchies["unified"] == nil ? 0 : 1))
        let own = try ContainerCgroup.planned("c1", below: "", usesSystemd: false, on: cgroups)
        #expect(own.allSatisfy { $0.path.hasSuffix("/swiftlet/c1") })
        let scopes = try ContainerCgroup.planned("c1", below: "/kubepods.slice/kubepods-pod1.slice", usesSystemd: true, on: cgroups)
        #expect(!scopes.isEmpty && scopes.allSatisfy { $0.path.hasSuffix("/kubepods.slice/kubepods-pod1.slice/swiftlet-c1.scope") })
    }
}

import Errors
import Foundation
import Glibc
import Testing

@testable import Linux

/// Control groups of the machine that the tests run on, and one of cgroup v2 alone.
@Suite struct ProcessCgroupTests {
    private func withProcess(_ body: (ProcessIdentity) throws -> Void) throws {
        var pid: pid_t = 0
        var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("sleep"), strdup("600"), nil]
        defer { for argument in arguments { free(argument) } }
        try #require(posix_spawn(&pid, "/bin/sleep", nil, nil, &arguments, nil) == 0)
        defer {
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
        }
        try body(try #require(ProcessIdentity.of(pid)))
    }

    private func groups(of pid: Int32) throws -> [String] {
        try String(contentsOfFile: "/proc/\(pid)/cgroup", encoding: .utf8).split(separator: "\n").map(String.init)
    }

    /// The unified hierarchy alone, as on a machine that has no other.
    private var unifiedOnly: Cgroups? {
        guard let cgroups = try? Cgroups.detect(), let unified = cgroups.hierarchies["unified"] else { return nil }
        return Cgroups(layout: .v2, hierarchies: ["unified": unified])
    }

    @Test func slicesStandBelowTheSlicesThatTheirNamesTell() throws {
        #expect(
            try ProcessCgroup.path(ofParent: "kubepods-burstable-pod12_3.slice")
                == ["kubepods.slice", "kubepods-burstable.slice", "kubepods-burstable-pod12_3.slice"])
        #expect(try ProcessCgroup.path(ofParent: "-.slice") == [])
        #expect(try ProcessCgroup.path(ofParent: "/kubepods/pod1") == ["kubepods", "pod1"])
        #expect(try ProcessCgroup.path(ofParent: "/") == [])
    }

    @Test(arguments: ["a--b.slice", "-a.slice", "a-.slice", "relative/path", "name", "/a/../b", "/a/./b", "/a\0b", ".slice"])
    func parentsThatAreNoGroupsAreRefused(parent: String) {
        #expect { try ProcessCgroup.path(ofParent: parent) } throws: { ($0 as? SwiftletError)?.code == .invalidArgument }
    }

    @Test(arguments: ["cgroupfs", "slice"])
    func aProcessJoinsInEveryHierarchyAndNothingIsLeft(style: String) throws {
        let unique = "swl\(getpid())\(style)"
        let parent = style == "slice" ? "\(unique)-pod1.slice" : "/\(unique)/pod1"
        let cgroups = try Cgroups.detect()
        let cgroup = try ProcessCgroup(parent: parent, name: "id", on: cgroups)
        #expect(!cgroup.directories.isEmpty && cgroup.parents.count == 2 * cgroup.directories.count)
        try withProcess { process in
            try cgroup.create()
            try cgroup.create()
            try cgroup.place(process)
            try cgroup.place(process)
            let expected = "/" + (try ProcessCgroup.path(ofParent: parent)).joined(separator: "/") + "/id"
            let joined = try groups(of: process.pid).filter { $0.hasSuffix(":" + expected) }
            #expect(joined.count == cgroup.directories.count, "\(joined)")
            #expect(cgroup.processes == [process.pid])
            let held = #expect(throws: SwiftletError.self) { try cgroup.remove() }
            #expect(held?.code == .failedPrecondition && held?.message.contains("\(process.pid)") == true)
        }
        try cgroup.remove()
        try cgroup.remove()
        for directory in cgroup.directories + cgroup.parents { #expect(access(directory.path, F_OK) != 0, "\(directory.path) is left") }
    }

    @Test func anotherPodsGroupKeepsTheirParent() throws {
        let cgroups = try Cgroups.detect()
        let parent = "/swl\(getpid())shared"
        let first = try ProcessCgroup(parent: parent, name: "one", on: cgroups)
        let second = try ProcessCgroup(parent: parent, name: "two", on: cgroups)
        try first.create()
        try second.create()
        try first.remove()
        #expect(second.directories.allSatisfy { access($0.path, F_OK) == 0 })
        try second.remove()
        #expect(second.parents.allSatisfy { access($0.path, F_OK) != 0 })
    }

    @Test func theUnifiedHierarchyAloneIsEnough() throws {
        guard let unified = unifiedOnly else { return }
        let cgroup = try ProcessCgroup(parent: "/swl\(getpid())v2/pod", name: "id", on: unified)
        #expect(cgroup.directories.map(\.isUnified) == [true])
        try withProcess { process in
            try cgroup.create()
            try cgroup.place(process)
            #expect(try groups(of: process.pid).contains("0::/swl\(getpid())v2/pod/id"))
        }
        try cgroup.remove()
    }

    @Test func limitsAreSetWhereTheirControllerIs() throws {
        let cgroups = try Cgroups.detect()
        let cgroup = try ProcessCgroup(parent: "/swl\(getpid())limits", name: "id", on: cgroups)
        try cgroup.create()
        defer { try? cgroup.remove() }
        let limits = CgroupLimits(memory: 64 << 20, cpuQuota: 150_000, cpuShares: 512, cpuWeight: 20)
        try cgroup.apply(limits)
        func value(_ hierarchy: String, _ file: String) -> String? {
            guard let root = cgroups.hierarchies[hierarchy] else { return nil }
            return (try? String(contentsOfFile: "\(root)/swl\(getpid())limits/id/\(file)", encoding: .utf8))?
                .trimmingCharacters(in: .whitespacesAndNewlines)
        }
        if cgroups.layout == .v2 {
            #expect(value("unified", "memory.max") == "67108864")
            #expect(value("unified", "cpu.max") == "150000 100000")
        } else {
            #expect(value("memory", "memory.limit_in_bytes") == "67108864")
            #expect(value("cpu", "cpu.cfs_quota_us") == "150000")
            #expect(value("cpu", "cpu.shares") == "512")
        }
        try cgroup.apply(CgroupLimits())
        if cgroups.layout != .v2 { #expect(value("cpu", "cpu.cfs_quota_us") == "-1") }
    }

    /// A kubelet has a pod's new limits set before it raises those of its own group, which cgroup v1 refuses.
    @Test func aQuotaBeyondTheParentsHoldsAsSoonAsTheParentAllowsIt() throws {
        let cgroups = try Cgroups.detect()
        guard cgroups.layout != .v2, let cpu = cgroups.hierarchies["cpu"] else { return }
        let parent = "/swl\(getpid())quota"
        let cgroup = try ProcessCgroup(parent: parent, name: "id", on: cgroups)
        try cgroup.create()
        defer { try? cgroup.remove() }
        func quota() throws -> String { try String(contentsOfFile: "\(cpu)\(parent)/id/cpu.cfs_quota_us", encoding: .utf8) }
        try KernelFile.write("100000", to: "\(cpu)\(parent)/cpu.cfs_quota_us")
        #expect(try cgroup.apply(CgroupLimits(cpuQuota: 80_000)))
        #expect(try !cgroup.apply(CgroupLimits(memory: 64 << 20, cpuQuota: 200_000, cpuShares: 512)))
        // The parent's holds, and what stands behind the quota is set.
        #expect(try quota() == "-1\n")
        #expect(try String(contentsOfFile: "\(cpu)\(parent)/id/cpu.shares", encoding: .utf8) == "512\n")
        try KernelFile.write("200000", to: "\(cpu)\(parent)/cpu.cfs_quota_us")
        #expect(try cgroup.apply(CgroupLimits(cpuQuota: 200_000)))
        #expect(try quota() == "200000\n")
    }

    @Test func theLeastLimitAboveIsFoundWithItsGroup() throws {
        let cgroups = try Cgroups.detect()
        let parent = "/swl\(getpid())above/pod"
        let cgroup = try ProcessCgroup(parent: parent, name: "id", on: cgroups)
        let before = cgroup.memoryAbove?.bytes ?? .max
        try cgroup.create()
        defer { try? cgroup.remove() }
        let isUnified = cgroups.layout == .v2
        let root = try #require(cgroups.hierarchies[isUnified ? "unified" : "memory"])
        let file = isUnified ? "memory.max" : "memory.limit_in_bytes"
        try KernelFile.write("\(64 << 20)", to: "\(root)/swl\(getpid())above/\(file)")
        let above = try #require(cgroup.memoryAbove)
        #expect(above.bytes == min(before, 64 << 20) && above.group.hasSuffix("above"), "\(above)")
        try KernelFile.write("\(32 << 20)", to: "\(root)\(parent)/\(file)")
        #expect(cgroup.memoryAbove?.bytes == 32 << 20)
        #expect(cgroup.memoryKills == 0)
    }

    @Test func filesOfBothVersionsSayTheSame() {
        let limits = CgroupLimits(memory: 1024, cpuQuota: 5000, cpuPeriod: 10_000, cpuShares: 2, cpuWeight: 1)
        #expect(limits.unifiedFiles.map { "\($0)=\($1)" } == ["cpu.max=5000 10000", "memory.max=1024", "cpu.weight=1"])
        #expect(CgroupLimits().unifiedFiles.map { "\($0)=\($1)" } == ["cpu.max=max 100000", "memory.max=max"])
        #expect(limits.legacyFiles.map(\.0).filter { $0 == "cpu.cfs_quota_us" }.count == 2)
    }
}

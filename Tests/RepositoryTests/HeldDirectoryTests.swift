import Foundation
import Glibc
import Support
import Testing

/// What tests make outside of their process, and what becomes of it when they are killed.
@Suite(.timeLimit(.minutes(1))) struct HeldDirectoryTests {
    private static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    @Test func whatARunHoldsStaysAndWhatAKilledOneLeftGoes() async throws {
        let ground = try HeldDirectory("swiftlet-held-")
        // The ground itself is locked.
        let parent = ground.path + "/parent"
        try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: false)
        let held = try HeldDirectory("of-a-test-", in: parent)
        let left = "\(parent)/of-a-test-0123ab"
        // None of these has a name of the kind.
        let others = ["of-a-test-0123abc", "of-a-test-0123ag", "of-a-test-", "another"].map { "\(parent)/\($0)" }
        for path in [left] + others {
            try FileManager.default.createDirectory(atPath: path + "/in/side", withIntermediateDirectories: true)
        }
        // Stands for another run.
        let (ready, run) = (Pipe(), ChildProcess())
        run.executableURL = URL(filePath: "/usr/bin/flock")
        run.arguments = ["--no-fork", left, "sh", "-c", "echo; exec sleep 1000"]
        run.standardOutput = ready
        try run.run()
        #expect(try ready.fileHandleForReading.read(upToCount: 1)?.count == 1)
        try HeldDirectory.removeLeftovers("of-a-test-", in: parent)
        #expect(Self.exists(left) && Self.exists(held.path))
        kill(run.processIdentifier, SIGKILL)
        run.waitUntilExit()
        try HeldDirectory.removeLeftovers("of-a-test-", in: parent)
        #expect(!Self.exists(left) && Self.exists(held.path))
        #expect(others.allSatisfy { Self.exists($0 + "/in/side") })
        let path = held.path
        held.remove()
        held.remove()
        #expect(!Self.exists(path))
        ground.remove()
        #expect(!Self.exists(ground.path))
    }

    @Test func oneGoesWithItsLastReference() throws {
        func path() throws -> String { try HeldDirectory("swiftlet-held-").path }
        #expect(!Self.exists(try path()))
    }

    private static let hierarchy = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].first { exists($0 + "/cgroup.procs") }

    @Test(.enabled(if: geteuid() == 0 && hierarchy != nil)) func aControlGroupGoesWithTheGroupsBelow() throws {
        let hierarchy = try #require(Self.hierarchy)
        let group = try HeldDirectory("swiftlet-held-", in: hierarchy, mode: 0o755)
        for name in ["/a", "/a/b", "/c"] { #expect(mkdir(group.path + name, 0o755) == 0) }
        try HeldDirectory.removeLeftovers("swiftlet-held-", in: hierarchy)
        #expect(Self.exists(group.path + "/a/b"))
        group.remove()
        #expect(!Self.exists(group.path))
    }

    /// One that is mounted below a directory that goes is not emptied.
    @Test(.enabled(if: geteuid() == 0)) func whatIsMountedThereStays() throws {
        let (ground, volume) = (try HeldDirectory("swiftlet-held-"), try HeldDirectory("swiftlet-held-"))
        try Data().write(to: URL(filePath: volume.path + "/file"))
        try FileManager.default.createDirectory(atPath: ground.path + "/mounted", withIntermediateDirectories: true)
        try #require(mount(volume.path, ground.path + "/mounted", nil, UInt(MS_BIND), nil) == 0)
        ground.remove()
        #expect(!Self.exists(ground.path) && Self.exists(volume.path + "/file"))
    }
}

import AgentProtocol
import Foundation
import Glibc
import Testing

@testable import GuestAgent

/// A directory that goes away with the test.
private final class Scratch {
    let path = "/tmp/swiftlet-stats-" + UUID().uuidString
    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ name: String, _ text: String) throws {
        try text.write(toFile: "\(path)/\(name)", atomically: false, encoding: .utf8)
    }
}

@Suite struct StatsTests {
    @Test func aCgroupIsReadFromItsFiles() throws {
        let scratch = try Scratch()
        try scratch.write("cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n")
        try scratch.write("cpu.max", "50000 100000\n")
        try scratch.write("cpu.weight", "79\n")
        try scratch.write("memory.current", "4096\n")
        try scratch.write("memory.max", "max\n")
        try scratch.write("memory.swap.max", "0\n")
        try scratch.write("memory.stat", "anon 1000\nfile 3000\ninactive_file 2000\npgfault 12\npgmajfault 3\n")
        try scratch.write("memory.events", "low 0\nhigh 0\nmax 4\noom 2\noom_kill 1\noom_group_kill 0\n")
        try scratch.write("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\nbroken\n")
        let pressure = "some avg10=1.50 avg60=0.25 avg300=0.00 total=99\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n"
        try scratch.write("io.pressure", pressure)
        try scratch.write("pids.current", "6\n")
        try scratch.write("pids.max", "100\n")
        try scratch.write("hugetlb.2MB.current", "2097152\n")
        let stats = CgroupFiles(path: scratch.path).stats
        #expect(stats.cpu.usageUs == 30 && stats.cpu.throttledUs == 7 && stats.cpu.quotaUs == 50000 && stats.cpu.periodUs == 100_000)
        #expect(stats.cpu.weight == 79)
        #expect(stats.memory.usageBytes == 4096 && !stats.memory.hasLimitBytes && stats.memory.hasSwapLimitBytes)
        #expect(stats.memory.anonymousBytes == 1000 && stats.memory.inactiveFileBytes == 2000 && stats.memory.majorPageFaults == 3)
        #expect(stats.memory.limitHits == 4 && stats.memory.oomEvents == 2 && stats.memory.oomKills == 1)
        #expect(stats.io.count == 1 && stats.io[0].major == 8 && stats.io[0].writeBytes == 2 && stats.io[0].reads == 3)
        #expect(stats.ioPressure.some.avg10 == 1.5 && stats.ioPressure.some.totalUs == 99 && stats.ioPressure.full.totalUs == 9)
        #expect(stats.threads == 6 && stats.threadsLimit == 100)
        #expect(stats.hugepages.map(\.usageBytes) == [2_097_152])
        #expect(CgroupFiles(path: scratch.path + "/none").stats.memory.usageBytes == 0)
    }

    @Test func interfacesAreReadFromTheKernelsTable() {
        let table = """
            Inter-|   Receive                                                |  Transmit
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
                lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
              eth0:    2000      20    3    4    0     0          0         0     5000      50    6    7    0     0       0          0
             short:    1
            """
        let interfaces = InterfaceCounters.parse(table)
        #expect(interfaces.map(\.name) == ["eth0"])
        #expect(interfaces.first?.rxBytes == 2000 && interfaces.first?.rxDropped == 4)
        #expect(interfaces.first?.txBytes == 5000 && interfaces.first?.txErrors == 6)
        #expect(InterfaceCounters.parse("").isEmpty)
    }

    @Test func aLayerIsCountedWithoutFollowingLinksOrCountingTwice() throws {
        let scratch = try Scratch()
        let tree = scratch.path + "/tree"
        mkdir(tree, 0o755)
        mkdir(tree + "/directory", 0o755)
        try Data(count: 100_000).write(to: URL(fileURLWithPath: tree + "/directory/file"))
        link(tree + "/directory/file", tree + "/again")
        symlink("/", tree + "/everything")
        let (stats, isComplete) = try #require(LayerWalk.count(tree, budget: 100))
        #expect(isComplete)
        // The root, the directory, the file of two names, the link.
        #expect(stats.inodes == 4)
        #expect((100_000...200_000).contains(stats.usedBytes))
        #expect(LayerWalk.count(tree, budget: 3)?.isComplete == false)
        #expect(LayerWalk.count(tree + "/none", budget: 3) == nil)
    }

    @Test func aTreeOfAnyDepthIsWalkedWithinBounds() throws {
        let scratch = try Scratch()
        var path = scratch.path
        for _ in 0..<(LayerWalk.deepest + 20) {
            path += "/d"
            mkdir(path, 0o755)
        }
        let (stats, _) = try #require(LayerWalk.count(scratch.path, budget: 1000))
        #expect(stats.inodes == UInt64(LayerWalk.deepest) + 1)
    }

    @Test func theAgentTellsOfEveryContainer() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        _ = try await client.call(
            .createContainer,
            .with {
                $0.containerID = "one"
                $0.spec.process.args = ["/bin/true"]
            }, timeout: .seconds(30))
        let stats = try await client.call(.getStats, .with { $0.openFiles = true }, timeout: .seconds(30))
        #expect(stats.containers.map(\.containerID) == ["one"])
        #expect(stats.memoryTotalBytes > 0 && stats.memoryAvailableBytes <= stats.memoryTotalBytes)
        #expect(stats.scratch.totalBytes > 0)
    }
}

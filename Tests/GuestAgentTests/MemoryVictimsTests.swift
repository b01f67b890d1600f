import Glibc
import Testing

@testable import GuestAgent

@Suite struct MemoryVictimsTests {
    private func victim(_ record: String) -> pid_t? { MemoryVictims.Record(Array(record.utf8))?.victim }

    @Test func victimsAreReadFromTheKernelsOwnWords() {
        let after = "total-vm:8352kB, anon-rss:7324kB, file-rss:4kB, shmem-rss:0kB, UID:0 pgtables:56kB oom_score_adj:0"
        #expect(victim("3,812,512345678,-;Memory cgroup out of memory: Killed process 71 (dd) \(after)\n") == 71)
        #expect(victim("3,813,512345679,c;Out of memory: Killed process 4194303 (a b) \(after)\n SUBSYSTEM=x\n") == 4_194_303)
        #expect(victim("6,814,512345680,-;oom_reaper: reaped process 71 (dd), now anon-rss:0kB\n") == nil)
        // What a program writes has a facility of its own, and what is named in another message is no victim.
        #expect(victim("11,815,512345681,-;Out of memory: Killed process 1 (dd) \(after)\n") == nil)
        #expect(victim("6,816,512345682,-;x: Out of memory: Killed process 1 (dd)\n") == nil)
        #expect(victim("3,817,512345683,-;Out of memory: Killed process x\n") == nil)
        for garbage in ["", ";", "3;", "3,818;text", "a,b,c;d"] { #expect(MemoryVictims.Record(Array(garbage.utf8)) == nil) }
    }

    @Test func aKillCountsForProcessesThatBeganBeforeIt() throws {
        // Records come one a read, as from the kernel.
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &ends) == 0)
        defer { close(ends[1]) }
        let victims = MemoryVictims(descriptor: ends[0])
        func write(_ sequence: Int, _ text: String) { _ = send(ends[1], "3,\(sequence),1,-;\(text)\n", text.utf8.count + 8, 0) }
        write(100, "Out of memory: Killed process 10 (old) x")
        let beginning = victims.position()
        #expect(victims.contain(10, since: beginning) == false, "the number was another's then")
        write(101, "booted again and again and again and ")
        write(102, "Out of memory: Killed process 11 (new) x")
        #expect(victims.contain(11, since: beginning) == true)
        #expect(victims.contain(12, since: beginning) == false)
        #expect(MemoryVictims(path: "/nowhere").contain(11, since: beginning) == nil)
    }
}

import Glibc
import Linux
import Testing

@testable import Machines

struct HeldSocketsTests {
    @Test(.timeLimit(.minutes(1))) func whoIsAtTheOtherEndSeesTheEndOfAProcessWhenItsSocketsAreLetGo() throws {
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        defer { close(ends[0]) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let child = try DetachedProcess("/bin/sleep", ["1000"], descriptors: [ends[1]])
        close(ends[1])
        let process = try #require(ProcessIdentity.of(child.pid))
        let held = HeldSockets(of: process)
        process.kill()
        #expect(process.waitForExit(.seconds(10)))
        process.reap()
        #expect(!Self.hasEnded(ends[0], within: 100))
        held.close()
        #expect(Self.hasEnded(ends[0], within: 10_000))
    }

    @Test func aProcessThatIsGoneHasNone() throws {
        var earlier = try #require(ProcessIdentity.of(getpid()))
        earlier.startTime -= 1
        HeldSockets(of: earlier).close()
    }

    private static func hasEnded(_ descriptor: Int32, within milliseconds: Int32) -> Bool {
        var waited = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&waited, 1, milliseconds) > 0
    }
}

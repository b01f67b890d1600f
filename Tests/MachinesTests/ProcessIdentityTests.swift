import Foundation
import Glibc
import Support
import Testing

@testable import Linux

struct ProcessIdentityTests {
    @Test func thisProcessIsAlive() throws {
        let own = try #require(ProcessIdentity.of(getpid()))
        #expect(own.isAlive)
        #expect(own.startTime > 0)
        #expect(try own.signal(0))
    }

    @Test func anEarlierHolderOfTheNumberIsLeftAlone() throws {
        var earlier = try #require(ProcessIdentity.of(getpid()))
        earlier.startTime -= 1
        #expect(!earlier.isAlive)
        #expect(try earlier.signal(SIGKILL) == false)
        #expect(ProcessIdentity.of(0) == nil)
        #expect(ProcessIdentity.of(-1) == nil)
    }

    @Test func aKilledProcessEndsAndItsZombieCountsAsGone() throws {
        let child = ChildProcess()
        child.executableURL = URL(filePath: "/bin/sleep")
        child.arguments = ["1000"]
        try child.run()
        let identity = try #require(ProcessIdentity.of(child.processIdentifier))
        #expect(!identity.waitForExit(.milliseconds(1)))
        identity.kill()
        #expect(identity.waitForExit(.seconds(10)))
        child.waitUntilExit()
        #expect(try identity.signal(SIGTERM) == false)
    }

    private func sleeper() throws -> (child: DetachedProcess, identity: ProcessIdentity) {
        let child = try DetachedProcess("/bin/sleep", ["1000"], descriptors: [])
        return (child, try #require(ProcessIdentity.of(child.pid)))
    }

    @Test func aChildsStatusIsCollectedForItAloneAndNotForAnEarlierHolderOfItsNumber() throws {
        let (child, identity) = try sleeper()
        identity.kill()
        #expect(identity.waitForExit(.seconds(10)))
        ProcessIdentity(pid: child.pid, startTime: identity.startTime - 1).reap()
        var information = siginfo_t()
        #expect(waitid(P_PID, id_t(child.pid), &information, WEXITED | WNOHANG | WNOWAIT) == 0, "its status is still there")
        identity.reap()
        #expect(waitid(P_PID, id_t(child.pid), &information, WEXITED | WNOHANG | WNOWAIT) == -1 && errno == ECHILD)
        identity.reap()
    }

    @Test func theEndOfAProcessIsReportedToWhoeverWaits() async throws {
        let (child, identity) = try sleeper()
        async let first = identity.hasEnded()
        async let second = identity.hasEnded()
        let cancelled = Task { await identity.hasEnded() }
        cancelled.cancel()
        #expect(await cancelled.value == false)
        #expect(identity.isAlive)
        child.killAndReap()
        #expect(await (first, second) == (true, true))
        #expect(await identity.hasEnded(), "one that is gone has ended")
    }

    @Test func namesWithParenthesesDoNotShiftTheFields() {
        let tail = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20"
        #expect(ProcessIdentity.parse(Array("77 (a) Z (b)\(tail)".utf8))?.startTime == 987_654)
        #expect(ProcessIdentity.parse(Array("77 (a) Z (b)\(tail)".utf8))?.isRunning == true)
        #expect(ProcessIdentity.parse(Array("77 (a) Z 1 2".utf8)) == nil)
        #expect(ProcessIdentity.parse([]) == nil)
    }
}

import Errors
import Glibc
import Synchronization
import Testing

@testable import Linux

@Suite struct SpawnTests {
    @Test func outputIsKeptAsFarAsItIsAdmitted() async throws {
        let left = Mutex(100)
        var spawn = Spawn("/bin/sh", ["-c", "head -c 80 /dev/zero; head -c 80 /dev/zero >&2"])
        spawn.admit = { wanted in
            left.withLock { left in
                defer { left -= min(left, wanted) }
                return min(left, wanted)
            }
        }
        let result = try await spawn.run()
        #expect(result.output.count + result.errorOutput.count == 100 && result.truncated && result.succeeded)
    }

    @Test(.timeLimit(.minutes(1))) func aProgramWhoseOutputIsNotAdmittedIsKilled() async throws {
        var spawn = Spawn("/bin/sh", ["-c", "echo; exec sleep 1000"])
        spawn.admit = { _ in throw SwiftletError(.resourceExhausted, "others have taken it") }
        let program = spawn
        let error = await #expect(throws: SwiftletError.self) { _ = try await program.run() }
        #expect(error?.code == .resourceExhausted)
    }

    @Test func inputGoesInAndBothOutputsComeOut() async throws {
        let result = try await Spawn("/bin/sh", ["-c", "cat; echo oops >&2; exit 3"], input: Array("hello".utf8)).run()
        #expect(result.outputText == "hello")
        #expect(result.errorText == "oops\n")
        #expect(result.status == 3)
        #expect(!result.truncated)
    }

    @Test func megabytesPassThroughWithoutDeadlock() async throws {
        let input = [UInt8](repeating: 0x78, count: 4 << 20)
        let result = try await Spawn("/bin/cat", input: input, outputLimit: 8 << 20).run()
        #expect(result.output == input)
    }

    @Test func outputBeyondTheLimitIsDroppedNotStored() async throws {
        let result = try await Spawn("/usr/bin/head", ["-c", "3000000", "/dev/zero"], outputLimit: 1000).run()
        #expect(result.output.count == 1000)
        #expect(result.truncated)
        #expect(result.succeeded)
    }

    @Test func aChildThatIgnoresItsInputIsNoError() async throws {
        let result = try await Spawn("/bin/true", input: [UInt8](repeating: 0, count: 1 << 20)).run()
        #expect(result.succeeded)
    }

    @Test func theDeadlineKillsTheWholeGroup() async throws {
        let script = "trap '' TERM; sleep 1000 & echo $! >&2; wait"
        let error = await #expect(throws: SwiftletError.self) {
            try await Spawn("/bin/sh", ["-c", script], deadline: .milliseconds(300)).run()
        }
        #expect(error?.code == .deadlineExceeded)
        let said = try #require(error?.message.split(separator: " ").last)
        let grandchild = try #require(pid_t(said))
        // Killed, hence gone or a zombie that its new parent has not collected yet.
        #expect(try await until { state(of: grandchild).map { $0 == "Z" } ?? true })
    }

    @Test func aGrandchildThatKeepsTheOutputOpenDoesNotHoldUpTheResult() async throws {
        let result = try await Spawn("/bin/sh", ["-c", "sleep 1000 & echo $!"], deadline: .seconds(30)).run()
        #expect(result.succeeded)
        let grandchild = try #require(pid_t(result.outputText.trimmingSuffix("\n")))
        kill(grandchild, SIGKILL)
    }

    @Test func aSignalIsAStatusAbove128() async throws {
        #expect(try await Spawn("/bin/sh", ["-c", "kill -KILL $$"]).run().status == 137)
    }

    @Test func environmentAndDirectoryAreThoseGivenAndNoDescriptorLeaks() async throws {
        let script = "echo $A $HOME; pwd; ls /proc/self/fd"
        let result = try await Spawn("/bin/sh", ["-c", script], environment: ["A": "b c"], directory: "/usr").run()
        // ls itself opens the directory as descriptor 3.
        #expect(result.outputText == "b c\n/usr\n0\n1\n2\n3\n")
    }

    @Test func whatCannotBeStartedIsAnErrorWithItsErrno() async throws {
        let error = await #expect(throws: SwiftletError.self) { try await Spawn("/nonexistent/program").run() }
        #expect(error?.systemErrno == ENOENT)
        #expect(error?.message.contains("/nonexistent/program") == true)
    }

    @Test func checkTurnsAFailureIntoAnErrorThatQuotesTheProgram() async throws {
        let error = await #expect(throws: SwiftletError.self) { try await Spawn("/bin/sh", ["-c", "echo no disk >&2; exit 1"]).check() }
        #expect(error?.message.contains("no disk") == true)
    }

    @Test func manyAtOnceAllFinish() async throws {
        let sum = try await withThrowingTaskGroup(of: Int32.self) { group in
            for number in 0..<50 { group.addTask { try await Spawn("/bin/sh", ["-c", "exit \(number % 5)"]).run().status } }
            return try await group.reduce(0, +)
        }
        #expect(sum == 100)
    }
}

private func state(of pid: pid_t) -> Character? {
    guard let file = fopen("/proc/\(pid)/stat", "r") else { return nil }
    defer { fclose(file) }
    var buffer = [UInt8](repeating: 0, count: 512)
    let count = fread(&buffer, 1, buffer.count, file)
    return String(decoding: buffer[..<count], as: UTF8.self).split(separator: ")").last?.first { $0 != " " }
}

/// Looks until the condition holds; gives up after many looks.
private func until(_ condition: () -> Bool) async throws -> Bool {
    for _ in 0..<500 {
        if condition() { return true }
        try await Task.sleep(for: .milliseconds(10))
    }
    return false
}

extension StringProtocol {
    fileprivate func trimmingSuffix(_ suffix: String) -> String { hasSuffix(suffix) ? String(dropLast(suffix.count)) : String(self) }
}

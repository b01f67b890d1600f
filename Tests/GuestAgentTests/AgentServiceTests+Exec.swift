import AgentClient
import AgentProtocol
import Errors
import Glibc
import Linux
import Support
import Testing

@testable import GuestAgent

/// Processes beside a container's first.
extension AgentServiceTests {
    @Test func furtherProcessesRunAreSignalledAndForgotten() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        _ = try await run(client, "c", "sleep 1000")
        let token = token()
        _ = try await client.call(
            .exec,
            .with {
                $0.containerID = "c"
                $0.processID = "e"
                $0.process.args = ["/bin/sh", "-c", "echo hi; sleep 1000"]
                $0.outputToken = .init(token)
            }, timeout: timeout)
        let output = try await client.openOutput(token: token)
        var chunks = output.makeAsyncIterator()
        #expect(try await chunks.next()?.bytes == Array("hi\n".utf8))
        for _ in 0..<2 {
            _ = try await client.call(
                .signal,
                .with {
                    $0.containerID = "c"
                    $0.processID = "e"
                    $0.signal = 9
                }, timeout: timeout)
        }
        #expect(try await client.wait(containerID: "c", processID: "e").exitCode == 137)
        for _ in 0..<2 {
            _ = try await client.call(
                .deleteProcess,
                .with {
                    $0.containerID = "c"
                    $0.processID = "e"
                }, timeout: timeout)
        }
        let error = await #expect(throws: SwiftletError.self) { try await client.wait(containerID: "c", processID: "e") }
        #expect(error?.code == .notFound)
        _ = try await client.call(.deleteContainer, .with { $0.containerID = "c" }, timeout: timeout)
    }

    /// Whoever has started it is gone, before it was connected to the output or after.
    @Test(arguments: [false, true]) func aFurtherProcessWithoutAHostIsKilledAndForgotten(connected: Bool) async throws {
        let guest = try TestGuest(execPatience: .seconds(5))
        let client = try await guest.start()
        _ = try await run(client, "c", "sleep 1000")
        for id in ["kept", "left"] {
            let token = token()
            _ = try await client.call(
                .exec,
                .with {
                    $0.containerID = "c"
                    $0.processID = id
                    $0.process.args = ["/bin/sh", "-c", "echo $$; sleep 1000"]
                    $0.outputToken = .init(token)
                }, timeout: timeout)
            guard connected || id == "kept" else { continue }
            let output = try await client.openOutput(token: token)
            var chunks = output.makeAsyncIterator()
            #expect(try await chunks.next()?.bytes.isEmpty == false)
            if id == "left" { output.close() } else { Task { while try await chunks.next() != nil {} } }
        }
        try await eventually("it is forgotten") {
            do {
                _ = try await client.call(
                    .signal, .with { ($0.containerID, $0.processID, $0.signal) = ("c", "left", 18) }, timeout: timeout)
                return false
            } catch let error as SwiftletError {
                return error.code == .notFound
            }
        }
        _ = try await client.call(.signal, .with { ($0.containerID, $0.processID, $0.signal) = ("c", "kept", 18) }, timeout: timeout)
        _ = try await client.call(.deleteContainer, .with { $0.containerID = "c" }, timeout: timeout)
    }

    /// All that the process has written itself comes, however slowly it is taken; its children are not waited for.
    @Test func theOutputOfAFurtherProcessEndsWithIt() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        _ = try await run(client, "c", "sleep 1000")
        let token = token()
        _ = try await client.call(
            .exec,
            .with {
                $0.containerID = "c"
                $0.processID = "e"
                $0.process.args = ["/bin/sh", "-c", "sleep 1000 & dd if=/dev/zero bs=1024 count=1000 2>/dev/null; echo end >&2; exit 4"]
                $0.outputToken = .init(token)
            }, timeout: timeout)
        // The buffer of 1 MiB is full long before it is taken.
        try await Task.sleep(for: .milliseconds(500))
        let output = try await client.openOutput(token: token)
        var (stdout, stderr) = (0, 0)
        for try await chunk in output {
            if chunk.source == .stdout { stdout += chunk.bytes.count } else { stderr += chunk.bytes.count }
            output.acknowledge(stdout: UInt64(stdout), stderr: UInt64(stderr))
        }
        #expect(stdout == 1000 << 10 && stderr == 4)
        #expect(try await client.wait(containerID: "c", processID: "e").exitCode == 4)
        _ = try await client.call(.deleteContainer, .with { $0.containerID = "c" }, timeout: timeout)
    }

    @Test func aProcessThatIsForgottenGoesWithItsChildren() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        _ = try await run(client, "c", "sleep 1000")
        let token = token()
        _ = try await client.call(
            .exec,
            .with {
                $0.containerID = "c"
                $0.processID = "e"
                $0.process.args = ["/bin/sh", "-c", "sleep 1000 & echo $!; wait"]
                $0.outputToken = .init(token)
            }, timeout: timeout)
        let output = try await client.openOutput(token: token)
        var chunks = output.makeAsyncIterator()
        let line = String(decoding: try #require(try await chunks.next()).bytes, as: UTF8.self)
        let child = try #require(pid_t(line.dropLast()))
        _ = try await client.call(
            .deleteProcess,
            .with {
                $0.containerID = "c"
                $0.processID = "e"
            }, timeout: timeout)
        try await eventually("the child ends") { kill(child, 0) != 0 || ProcessIdentity.of(child) == nil }
        _ = try await client.call(.deleteContainer, .with { $0.containerID = "c" }, timeout: timeout)
    }

    @Test func aProcessDeletedInTheMiddleOfItsStartDoesNotLive() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        _ = try await run(client, "c", "sleep 1000")
        let exec = Task {
            try await client.call(
                .exec,
                .with {
                    $0.containerID = "c"
                    $0.processID = "e"
                    $0.process.args = ["/bin/sh", "-c", "sleep 1000; true", "held"]
                    $0.process.stdin = true
                }, timeout: timeout)
        }
        await guest.held.reached.wait()
        _ = try await client.call(
            .deleteProcess,
            .with {
                $0.containerID = "c"
                $0.processID = "e"
            }, timeout: timeout)
        guest.held.go.open()
        let error = await #expect(throws: SwiftletError.self) { _ = try await exec.value }
        #expect(error?.code == .aborted)
        #expect(guest.held.ends())
        #expect(try await client.call(.list, .init(), timeout: timeout).containers.first?.execs.isEmpty == true)
        _ = try await client.call(.deleteContainer, .with { $0.containerID = "c" }, timeout: timeout)
    }

    @Test func aDeleteRightBehindItsExecFindsTheProcess() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        _ = try await run(client, "c", "sleep 1000")
        for index in 0..<50 {
            let exec = Task {
                try await client.call(
                    .exec,
                    .with {
                        $0.containerID = "c"
                        $0.processID = "e\(index)"
                        $0.process.args = ["/bin/sleep", "1000"]
                    }, timeout: timeout)
            }
            // The call is on the wire, or never gets there.
            exec.cancel()
            _ = try? await exec.value
            _ = try await client.call(
                .deleteProcess,
                .with {
                    $0.containerID = "c"
                    $0.processID = "e\(index)"
                }, timeout: timeout)
        }
        #expect(try await client.call(.list, .init(), timeout: timeout).containers.first?.execs.isEmpty == true)
        _ = try await client.call(.deleteContainer, .with { $0.containerID = "c" }, timeout: timeout)
    }

    @Test func aCommandThatDoesNotExistIsNamedAndLeavesNoProcess() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        _ = try await run(client, "c", "sleep 1000")
        let error = await #expect(throws: SwiftletError.self) {
            try await client.call(
                .exec,
                .with {
                    $0.containerID = "c"
                    $0.processID = "e"
                    $0.process.args = ["/no/such/command"]
                }, timeout: timeout)
        }
        #expect(error?.message.contains("/no/such/command") == true)
        #expect(try await client.call(.list, .init(), timeout: timeout).containers.first?.execs.isEmpty == true)
        _ = try await client.call(.deleteContainer, .with { $0.containerID = "c" }, timeout: timeout)
    }

    @Test func theExitOfEveryShortProcessIsSeen() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        _ = try await run(client, "c", "sleep 1000")
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for index in 0..<100 {
                group.addTask {
                    let code = UInt32(index % 200)
                    _ = try await client.call(
                        .exec,
                        .with {
                            $0.containerID = "c"
                            $0.processID = "p\(index)"
                            $0.process.args = ["/bin/sh", "-c", "exit \(code)"]
                        }, timeout: .seconds(60))
                    return try await client.wait(containerID: "c", processID: "p\(index)").exitCode == code
                }
            }
            for try await isRight in group { #expect(isRight) }
        }
        _ = try await client.call(.deleteContainer, .with { $0.containerID = "c" }, timeout: timeout)
    }
}

import AgentClient
import AgentProtocol
import Errors
import Glibc
import Support
import Testing

@testable import GuestAgent

/// The host's client against the agent, with plain processes as containers.
@Suite struct AgentServiceTests {
    let timeout = Duration.seconds(30)

    /// Creates and starts a container.
    func run(
        _ client: AgentClient, _ id: String, _ script: String, stdin: Bool = false, terminal: Bool = false
    ) async throws -> (output: AgentOutputStream, input: AgentInputStream?) {
        let tokens = (output: token(), stdin: token())
        _ = try await client.call(
            .createContainer,
            .with {
                $0.containerID = id
                $0.spec.process.args = ["/bin/sh", "-c", script]
                $0.spec.process.stdin = stdin
                $0.spec.process.terminal = terminal
                $0.outputToken = .init(tokens.output)
                if stdin { $0.stdinToken = .init(tokens.stdin) }
            }, timeout: timeout)
        let output = try await client.openOutput(token: tokens.output)
        let input = stdin ? try await client.openInput(token: tokens.stdin) : nil
        _ = try await client.call(.startContainer, .with { $0.containerID = id }, timeout: timeout)
        return (output, input)
    }

    func token() -> [UInt8] { (0..<32).map { _ in UInt8.random(in: 0...255) } }

    /// Everything that a stream brings, acknowledged as it comes.
    func collect(_ stream: AgentOutputStream) async throws -> (stdout: [UInt8], stderr: [UInt8]) {
        var bytes: [OutputSource: [UInt8]] = [:]
        for try await chunk in stream {
            #expect(chunk.offset == bytes[chunk.source, default: []].count)
            bytes[chunk.source, default: []] += chunk.bytes
            stream.acknowledge(stdout: UInt64(bytes[.stdout]?.count ?? 0), stderr: UInt64(bytes[.stderr]?.count ?? 0))
        }
        return (bytes[.stdout] ?? [], bytes[.stderr] ?? [])
    }

    @Test func theAgentSaysWhatItIs() async throws {
        let guest = try TestGuest()
        let client = try await guest.connect()
        #expect(client.info.version == "test")
        #expect(client.info.features.contains(AgentFeature.resumableOutput))
        #expect(client.info.sandboxID.isEmpty)
        _ = try await client.call(.startSandbox, .with { $0.sandboxID = "one" }, timeout: timeout)
        _ = try await client.call(.startSandbox, .with { $0.sandboxID = "one" }, timeout: timeout)
        let error = await #expect(throws: SwiftletError.self) {
            try await client.call(.startSandbox, .with { $0.sandboxID = "two" }, timeout: timeout)
        }
        #expect(error?.code == .failedPrecondition)
        #expect(try await client.call(.getInfo, .init(), timeout: timeout).sandboxID == "one")
    }

    @Test func outputAndExitCodeArriveWhole() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        let process = try await run(client, "c", "echo out; echo err >&2; exit 3")
        let output = try await collect(process.output)
        #expect(String(decoding: output.stdout, as: UTF8.self) == "out\n")
        #expect(String(decoding: output.stderr, as: UTF8.self) == "err\n")
        let exit = try await client.wait(containerID: "c", processID: "")
        #expect(exit.exitCode == 3 && exit.exitedAtNs > 0)
        // The exit stays until the container is deleted.
        #expect(try await client.wait(containerID: "c", processID: "").exitCode == 3)
        _ = try await client.call(.deleteContainer, .with { $0.containerID = "c" }, timeout: timeout)
        _ = try await client.call(.deleteContainer, .with { $0.containerID = "c" }, timeout: timeout)
        let error = await #expect(throws: SwiftletError.self) { try await client.wait(containerID: "c", processID: "") }
        #expect(error?.code == .notFound)
    }

    @Test func aProcessWithoutAReaderBlocksAndLosesNothing() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        let process = try await run(client, "c", "seq 1 500000")
        var expected: [UInt8] = []
        for number in 1...500_000 { expected += Array("\(number)\n".utf8) }

        // Nothing is acknowledged, so no more than the guest's buffer can come.
        var received: [UInt8] = []
        var chunks = process.output.makeAsyncIterator()
        let limit = AgentContract.outputBufferSize - OutputFrame.maximumPayload - 64 * 1024
        while received.count < limit, let chunk = try await chunks.next() { received += chunk.bytes }
        let state = try await client.call(.list, .init(), timeout: timeout)
        #expect(state.containers.first?.process.state == .running)
        #expect(state.containers.first?.process.stdoutAcknowledged == 0)
        #expect(received.count <= AgentContract.outputBufferSize)

        process.output.acknowledge(stdout: UInt64(received.count), stderr: 0)
        while let chunk = try await chunks.next() {
            #expect(chunk.source == .stderr || chunk.offset == received.count)
            if chunk.source == .stdout { received += chunk.bytes }
            process.output.acknowledge(stdout: UInt64(received.count), stderr: 0)
        }
        #expect(received == expected)
    }

    @Test func aHostThatComesBackGoesOnWhereItWas() async throws {
        var random = SplitMix(variable: "RECONNECT_SEED")
        let seed = Comment(rawValue: "RECONNECT_SEED=\(random.seed)")
        let guest = try TestGuest()
        let first = try await guest.start()
        let process = try await run(first, "c", "seq 1 300000; seq 1 1000 >&2")
        var bytes: [OutputSource: [UInt8]] = [.stdout: [], .stderr: []]
        var stream = process.output
        var client = first
        var connections = 1
        // Each host reads a while, acknowledges less than it read, and goes away with its connections.
        while true {
            var kept = bytes
            var budget = Int.random(in: 1...400_000, using: &random)
            var ended = false
            var chunks = stream.makeAsyncIterator()
            while budget > 0 {
                guard let chunk = try await chunks.next() else {
                    ended = true
                    break
                }
                bytes[chunk.source, default: []] += chunk.bytes
                budget -= chunk.bytes.count + 1
                if Bool.random(using: &random) || chunk.end {
                    kept = bytes
                    stream.acknowledge(stdout: UInt64(kept[.stdout]?.count ?? 0), stderr: UInt64(kept[.stderr]?.count ?? 0))
                }
            }
            if ended { break }
            stream.close()
            client.close()
            bytes = kept
            client = try await guest.connect()
            connections += 1
            let token = token()
            let offsets = (stdout: UInt64(bytes[.stdout]?.count ?? 0), stderr: UInt64(bytes[.stderr]?.count ?? 0))
            _ = try await client.call(
                .openStream,
                .with {
                    $0.containerID = "c"
                    $0.kind = .output
                    $0.token = .init(token)
                    $0.stdoutOffset = offsets.stdout
                    $0.stderrOffset = offsets.stderr
                }, timeout: timeout)
            stream = try await client.openOutput(token: token, stdoutOffset: offsets.stdout, stderrOffset: offsets.stderr)
        }
        var expected: [UInt8] = []
        for number in 1...300_000 { expected += Array("\(number)\n".utf8) }
        #expect(bytes[.stdout] == expected, seed)
        #expect(bytes[.stderr]?.count == 3893, seed)
        #expect(connections > 2, seed)
        #expect(try await client.wait(containerID: "c", processID: "").exitCode == 0)
    }

    @Test func containersThatWaitForTheirDisksHoldNoOtherCallUp() async throws {
        let disks = PluggedDisks()
        let guest = try TestGuest(devices: disks.waits(rounds: 1_000_000))
        let client = try await guest.start()
        // More than the agent has threads for calls that block.
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<40 {
                group.addTask {
                    _ = try await client.call(
                        .createContainer,
                        .with {
                            $0.containerID = "waits-\(index)"
                            $0.spec.process.args = ["/bin/true"]
                            $0.spec.root.layers = [.with { $0.serial = "late" }]
                        }, timeout: .seconds(600))
                }
            }
            let process = try await run(client, "c", "echo fine")
            #expect(try await collect(process.output).stdout == Array("fine\n".utf8))
            _ = try await client.call(.deleteContainer, .with { $0.containerID = "c" }, timeout: timeout)
            #expect(try await client.call(.list, .init(), timeout: timeout).containers.isEmpty)
            disks.plug("late")
            try await group.waitForAll()
        }
        #expect(try await client.call(.list, .init(), timeout: timeout).containers.count == 40)
    }

    @Test func aContainerWhoseDiskDoesNotComeFailsAndFreesItsID() async throws {
        let disks = PluggedDisks()
        let guest = try TestGuest(devices: disks.waits(rounds: 2))
        let client = try await guest.start()
        let create = AgentCreateContainerRequest.with {
            $0.containerID = "c"
            $0.spec.process.args = ["/bin/true"]
            $0.spec.root.layers = [.with { $0.serial = "late" }]
        }
        let error = await #expect(throws: SwiftletError.self) { try await client.call(.createContainer, create, timeout: timeout) }
        #expect(error?.code == .notFound)
        #expect(error?.message.contains("creating container c: no disk with serial late") == true)
        disks.plug("late")
        _ = try await client.call(.createContainer, create, timeout: timeout)
    }

    @Test func offsetsThatAreGoneAreOutOfRange() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        _ = try await collect(try await run(client, "c", "echo hello").output)
        for offset in [UInt64(0), 7] {
            let error = await #expect(throws: SwiftletError.self) {
                try await client.call(
                    .openStream,
                    .with {
                        $0.containerID = "c"
                        $0.token = .init(token())
                        $0.stdoutOffset = offset
                    }, timeout: timeout)
            }
            #expect(error?.code == .outOfRange)
        }
    }

    @Test func inputArrivesInOrderWithBackPressureAndEnds() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        let process = try await run(client, "c", "cat", stdin: true)
        let input = try #require(process.input)
        let sent = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
        async let collected = collect(process.output)
        for start in stride(from: 0, to: sent.count, by: 100_000) { try await input.write(Array(sent[start..<start + 100_000])) }
        input.closeWrite()
        input.close()
        #expect(try await collected.stdout == sent)
        #expect(try await client.wait(containerID: "c", processID: "").exitCode == 0)
    }

    @Test func inputOfALostHostStaysOpenForTheNextOne() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        let process = try await run(client, "c", "cat", stdin: true)
        let input = try #require(process.input)
        try await input.write(Array("one ".utf8))
        var chunks = process.output.makeAsyncIterator()
        #expect(try await chunks.next()?.bytes == Array("one ".utf8))
        input.close()

        let token = token()
        _ = try await client.call(
            .openStream,
            .with {
                $0.containerID = "c"
                $0.kind = .stdin
                $0.token = .init(token)
            }, timeout: timeout)
        let second = try await client.openInput(token: token)
        try await second.write(Array("two".utf8))
        #expect(try await chunks.next()?.bytes == Array("two".utf8))
        second.closeWrite()
        #expect(try await client.wait(containerID: "c", processID: "").exitCode == 0)
        await #expect(throws: SwiftletError.self) { try await second.write([1]) }
    }

    @Test func aTerminalHasOneSourceASizeAndAnEnd() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        let process = try await run(client, "c", "read line; stty size <&0; cat", stdin: true, terminal: true)
        _ = try await client.call(
            .resizeTerminal,
            .with {
                $0.containerID = "c"
                $0.width = 123
                $0.height = 45
            }, timeout: timeout)
        let input = try #require(process.input)
        try await input.write(Array("go\n".utf8))
        input.closeWrite()
        let output = try await collect(process.output)
        let text = String(decoding: output.stdout, as: UTF8.self)
        #expect(text.contains("45 123"))
        #expect(output.stderr.isEmpty)
        #expect(try await client.wait(containerID: "c", processID: "").exitCode == 0)
    }

    @Test func aTokenOpensOneStreamOnceAndAnInventedOneNone() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        let token = token()
        _ = try await client.call(
            .createContainer,
            .with {
                $0.containerID = "c"
                $0.spec.process.args = ["/bin/true"]
                $0.outputToken = .init(token)
            }, timeout: timeout)
        let stream = try await client.openOutput(token: token)
        for used in [token, self.token()] {
            let error = await #expect(throws: SwiftletError.self) { _ = try await client.openOutput(token: used) }
            #expect(error?.code == .permissionDenied)
        }
        _ = try await client.call(.startContainer, .with { $0.containerID = "c" }, timeout: timeout)
        #expect(try await collect(stream).stdout.isEmpty)
    }

    @Test(arguments: [AgentContract.controlPort, AgentContract.streamPort]) func garbageEndsItsOwnConnectionAndNoOther(
        port: UInt32
    ) async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        for byte in [1, 2, 3, 7, 8, 16, 31, 64, 127, 128, 129, 192, 240, 254, 255] as [UInt8] {
            let descriptor = try guest.rawConnection(port: port)
            let bytes = [UInt8](repeating: byte, count: 4096)
            send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            close(descriptor)
        }
        #expect(try await client.call(.getInfo, .init(), timeout: timeout).version == "test")
        let process = try await run(client, "c", "echo fine")
        #expect(try await collect(process.output).stdout == Array("fine\n".utf8))
    }

    @Test func acknowledgementsOfNothingEndTheStreamAndNotTheProcess() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        let process = try await run(client, "c", "echo one; read line", stdin: true)
        var chunks = process.output.makeAsyncIterator()
        #expect(try await chunks.next()?.bytes == Array("one\n".utf8))
        process.output.acknowledge(stdout: 1 << 60, stderr: 0)
        await #expect(throws: SwiftletError.self) { while try await chunks.next() != nil {} }
        let token = token()
        _ = try await client.call(
            .openStream,
            .with {
                $0.containerID = "c"
                $0.token = .init(token)
            }, timeout: timeout)
        process.input?.closeWrite()
        #expect(try await collect(try await client.openOutput(token: token)).stdout == Array("one\n".utf8))
    }

    @Test func unknownMethodsAndMalformedRequestsAreAnsweredAsSuch() async throws {
        let guest = try TestGuest()
        let client = try await guest.connect()
        let missing = await #expect(throws: SwiftletError.self) {
            try await client.call(.startContainer, .with { $0.containerID = "nobody" }, timeout: timeout)
        }
        #expect(missing?.code == .notFound)
        let early = await #expect(throws: SwiftletError.self) {
            try await client.call(.createContainer, .with { $0.containerID = "c" }, timeout: timeout)
        }
        #expect(early?.code == .failedPrecondition)
    }

    @Test(arguments: ["", "../x", "a/b", "a\u{0}b", String(repeating: "x", count: 10_000)])
    func containerIDsThatAreNoNamesAreRefused(id: String) async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        let error = await #expect(throws: SwiftletError.self) {
            try await client.call(.createContainer, .with { $0.containerID = id }, timeout: timeout)
        }
        #expect(error?.code == .invalidArgument)
    }

    @Test func shutdownAnswersBeforeThePowerGoes() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        _ = try await run(client, "c", "sleep 1000")
        _ = try await client.call(.shutdown, .init(), timeout: timeout)
        await guest.poweredOff.wait()
        #expect(try await client.wait(containerID: "c", processID: "").exitCode == 137)
    }
}

import AgentClient
import AgentProtocol
import Concurrency
import Errors
import Glibc
import Linux
import Runtime
import TTRPC
import Testing

@testable import GuestAgent

/// The host's client against guests that misbehave.
@Suite struct AgentClientTests {
    @Test func aGuestThatIsNotThereIsADeadlineExceeded() async {
        let error = await #expect(throws: SwiftletError.self) {
            _ = try await AgentClient.connect(to: .unixProxy(path: "/nonexistent/socket"), deadline: .now + .milliseconds(60))
        }
        #expect(error?.code == .deadlineExceeded)
    }

    @Test func connectingIsCancellable() async {
        let task = Task { try await AgentClient.connect(to: .unixProxy(path: "/nonexistent/socket"), deadline: .now + .seconds(3600)) }
        task.cancel()
        let error = await #expect(throws: SwiftletError.self) { _ = try await task.value }
        #expect(error?.code == .cancelled)
    }

    @Test func callsOfALostGuestAreUnavailableAndClosedReturns() async throws {
        let guest = try HostileGuest(.answersInfoThenCloses)
        let client = try await AgentClient.connect(to: guest.address, deadline: .now + .seconds(20))
        let error = await #expect(throws: SwiftletError.self) { try await client.call(.list, .init(), timeout: .seconds(20)) }
        #expect(error?.code == .unavailable)
        await client.closed
        let wait = await #expect(throws: SwiftletError.self) { try await client.wait(containerID: "c", processID: "") }
        #expect(wait?.code == .unavailable)
    }

    @Test func aSilentGuestEndsInTheCallsOwnDeadline() async throws {
        let guest = try HostileGuest(.answersInfoThenIsSilent)
        let client = try await AgentClient.connect(to: guest.address, deadline: .now + .seconds(20))
        let error = await #expect(throws: SwiftletError.self) { try await client.call(.list, .init(), timeout: .milliseconds(30)) }
        #expect(error?.code == .deadlineExceeded)
        let task = Task { try await client.wait(containerID: "c", processID: "") }
        task.cancel()
        let cancelled = await #expect(throws: SwiftletError.self) { _ = try await task.value }
        #expect(cancelled?.code == .cancelled)
    }

    @Test func garbageInsteadOfAnAnswerClosesTheConnection() async throws {
        let guest = try HostileGuest(.answersInfoThenSendsGarbage)
        let client = try await AgentClient.connect(to: guest.address, deadline: .now + .seconds(20))
        let error = await #expect(throws: SwiftletError.self) { try await client.call(.list, .init(), timeout: .seconds(20)) }
        #expect(error?.code == .resourceExhausted || error?.code == .dataLoss || error?.code == .unavailable)
        await client.closed
    }

    @Test(
        arguments: [
            // No source 9; data after the end; a frame longer than allowed; an empty frame; half a frame.
            [9, 0, 0, 0, 0, 0, 0, 1, 65], [1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 65], [1, 0, 0, 0, 1, 0, 0, 1],
            [1, 0, 0, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 0, 0, 9, 65],
        ] as [[UInt8]])
    func outputThatBreaksTheProtocolEndsItsStreamWithAnError(bytes: [UInt8]) async throws {
        let guest = try HostileGuest(.answersInfoThenIsSilent, stream: bytes)
        let client = try await AgentClient.connect(to: guest.address, deadline: .now + .seconds(20))
        let stream = try await client.openOutput(token: [UInt8](repeating: 1, count: 32))
        let error = await #expect(throws: SwiftletError.self) { for try await _ in stream {} }
        #expect(error?.code == .dataLoss || error?.code == .unavailable)
    }

    @Test func aFloodOfOutputWaitsForItsReader() async throws {
        let frame = OutputFrame(source: .stdout, payload: [UInt8](repeating: 65, count: 1000)).encoded
        let end =
            OutputFrame(source: .stdout, end: true, payload: []).encoded + OutputFrame(source: .stderr, end: true, payload: []).encoded
        let guest = try HostileGuest(.answersInfoThenIsSilent, stream: (0..<5000).flatMap { _ in frame } + end)
        let client = try await AgentClient.connect(to: guest.address, deadline: .now + .seconds(20))
        let stream = try await client.openOutput(token: [UInt8](repeating: 1, count: 32))
        var received = 0
        for try await chunk in stream { received += chunk.bytes.count }
        #expect(received == 5_000_000)
    }

    @Test func closedReturnsWhenItsTaskIsCancelled() async throws {
        let guest = try TestGuest()
        let client = try await guest.connect()
        let task = Task { await client.closed }
        task.cancel()
        await task.value
        let second = Task { await client.closed }
        client.close()
        await second.value
    }

    @Test func manyCallersOfOneWaitAllHearOfTheExit() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        _ = try await client.call(
            .createContainer,
            .with {
                $0.containerID = "c"
                $0.spec.process.args = ["/bin/sh", "-c", "exit 7"]
            }, timeout: .seconds(20))
        let waits = (0..<10).map { _ in Task { try await client.wait(containerID: "c", processID: "").exitCode } }
        waits[3].cancel()
        _ = try await client.call(.startContainer, .with { $0.containerID = "c" }, timeout: .seconds(20))
        for (index, wait) in waits.enumerated() where index != 3 { #expect(try await wait.value == 7) }
    }
}

/// A guest that answers the first call and then does something else, in a thread of its own.
final class HostileGuest: Sendable {
    enum Behaviour: Sendable {
        case answersInfoThenCloses
        case answersInfoThenIsSilent
        case answersInfoThenSendsGarbage
    }

    private let path: String
    private let listener: Int32

    var address: VsockAddress { .unixProxy(path: path) }

    /// - Parameter stream: what each connection to the stream port gets after its token.
    init(_ behaviour: Behaviour, stream: [UInt8] = []) throws {
        path = "/tmp/swiftlet-hostile-\(UInt64.random(in: 0 ... .max))"
        listener = try TestSocket.listen(path, nonBlocking: false)
        // The thread has a descriptor of its own: a number that the other side closed may be anything.
        let listener = dup(listener)
        try OwnThread.start {
            defer { close(listener) }
            // One control connection, then one stream: more than any test opens.
            guard let control = Self.greet(listener) else { return }
            defer { close(control) }
            Self.answer(control, stream: 1)
            Self.behave(behaviour, control, stream, listener)
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
        unlink(path)
    }

    private static func greet(_ listener: Int32) -> Int32? {
        let connection = accept(listener, nil, nil)
        guard connection >= 0 else { return nil }
        var byte: UInt8 = 0
        while read(connection, &byte, 1) == 1, byte != UInt8(ascii: "\n") {}
        let greeting = Array("OK 1\n".utf8)
        write(connection, greeting, greeting.count)
        return connection
    }

    private static func behave(_ behaviour: Behaviour, _ control: Int32, _ stream: [UInt8], _ listener: Int32) {
        var byte: UInt8 = 0
        switch behaviour {
        case .answersInfoThenCloses: return
        case .answersInfoThenIsSilent:
            if !stream.isEmpty, let connection = greet(listener) {
                var token = [UInt8](repeating: 0, count: AgentContract.tokenLength)
                recv(connection, &token, token.count, Int32(MSG_WAITALL))
                send(connection, [AgentContract.streamAccepted] + stream, stream.count + 1, Int32(MSG_NOSIGNAL))
                close(connection)
            }
            while read(control, &byte, 1) == 1 {}
        case .answersInfoThenSendsGarbage:
            let garbage = [UInt8](repeating: 0xff, count: 1000)
            send(control, garbage, garbage.count, Int32(MSG_NOSIGNAL))
            while read(control, &byte, 1) == 1 {}
        }
    }

    private static func answer(_ connection: Int32, stream: UInt32) {
        var header = [UInt8](repeating: 0, count: TTRPCFrame.headerLength)
        guard recv(connection, &header, header.count, Int32(MSG_WAITALL)) == header.count else { return }
        var payload = [UInt8](repeating: 0, count: Int(header[2]) << 8 | Int(header[3]))
        recv(connection, &payload, payload.count, Int32(MSG_WAITALL))
        let frame = TTRPCFrame(stream: stream, kind: .response, payload: TTRPCResponse(.success([])).encoded)
        if let bytes = try? frame.encoded() { write(connection, bytes, bytes.count) }
    }
}

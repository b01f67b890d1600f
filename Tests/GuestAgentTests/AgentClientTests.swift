import AgentProtocol
import Errors
import Glibc
import Linux
import MicroVM
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

    init(_ behaviour: Behaviour) throws {
        path = "/tmp/swiftlet-hostile-\(UInt64.random(in: 0 ... .max))"
        listener = try TestSocket.listen(path, nonBlocking: false)
        let listener = listener
        try OwnThread.start { Self.serve(listener, behaviour) }
    }

    deinit {
        close(listener)
        unlink(path)
    }

    private static func serve(_ listener: Int32, _ behaviour: Behaviour) {
        let connection = accept(listener, nil, nil)
        guard connection >= 0 else { return }
        defer { close(connection) }
        var byte: UInt8 = 0
        while read(connection, &byte, 1) == 1, byte != UInt8(ascii: "\n") {}
        let greeting = Array("OK 1024\n".utf8)
        write(connection, greeting, greeting.count)
        answer(connection, stream: 1)
        switch behaviour {
        case .answersInfoThenCloses: return
        case .answersInfoThenIsSilent: while read(connection, &byte, 1) == 1 {}
        case .answersInfoThenSendsGarbage:
            let garbage = [UInt8](repeating: 0xff, count: 1000)
            send(connection, garbage, garbage.count, Int32(MSG_NOSIGNAL))
            while read(connection, &byte, 1) == 1 {}
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

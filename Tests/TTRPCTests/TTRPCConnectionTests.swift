import Errors
import Glibc
import Linux
import Synchronization
import TTRPC
import Testing

/// Answers "Echo" with what it got, "Fail" with an error and "Never" not at all.
private final class EchoService: TTRPCService {
    let kept = Mutex<[Completion]>([])
    let lost = AsyncStream<Void>.makeStream()

    func handle(_ request: TTRPCRequest, caller: ObjectIdentifier, _ complete: @escaping Completion) {
        switch request.method {
        case "Echo": complete(.success(Array("\(request.service)/".utf8) + request.payload))
        case "Fail": complete(.failure(SwiftletError(.outOfRange, "too far")))
        default: kept.withLock { $0.append(complete) }
        }
    }

    func callerLost(_ caller: ObjectIdentifier) { lost.continuation.finish() }
}

extension TTRPCClient {
    fileprivate func call(_ method: String, _ payload: [UInt8] = [], timeout: Duration? = .seconds(60)) async throws -> [UInt8] {
        try await withCheckedThrowingContinuation { continuation in
            begin(method, payload, timeout: timeout) { continuation.resume(with: $0) }
        }
    }
}

/// Both halves, on a pair of sockets: nothing here knows the agent.
@Suite(.timeLimit(.minutes(2))) struct TTRPCConnectionTests {
    private let service = EchoService()
    private let server: TTRPCServer
    private let loop: EventLoop

    init() throws {
        signal(SIGPIPE) { _ in }
        loop = try EventLoop(name: "ttrpc-test")
        server = TTRPCServer(service: service, loop: loop, limits: TTRPCServer.Limits(connections: 2, calls: 8))
    }

    private func connect() throws -> TTRPCClient {
        var ends: [Int32] = [0, 0]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else { throw SwiftletError.system("socketpair") }
        server.accept(ends[0])
        return try TTRPCClient(descriptor: ends[1], service: "test.v1.Echo", server: "the echo", loop: loop)
    }

    @Test func callsOfAnyServiceAreAnswered() async throws {
        let client = try connect()
        #expect(try await client.call("Echo", Array("hello".utf8)) == Array("test.v1.Echo/hello".utf8))
        let large = [UInt8](repeating: 7, count: 3 << 20)
        #expect(try await client.call("Echo", large).count == large.count + 13)
        let error = await #expect(throws: SwiftletError.self) { try await client.call("Fail") }
        #expect(error?.code == .outOfRange && error?.message == "too far")
    }

    @Test func aCallThatIsNotAnsweredEndsInItsDeadlineAndNamesTheServer() async throws {
        let client = try connect()
        let error = await #expect(throws: SwiftletError.self) { try await client.call("Never", timeout: .milliseconds(20)) }
        #expect(error?.code == .deadlineExceeded && error?.message == "Never: the echo did not answer in time")
        #expect(try await client.call("Echo") == Array("test.v1.Echo/".utf8))
    }

    @Test func callsBeyondTheLimitAreRefusedAndOthersGoOn() async throws {
        let client = try connect()
        for _ in 0..<8 { client.begin("Never", [], timeout: nil) { _ in } }
        let error = await #expect(throws: SwiftletError.self) { try await client.call("Echo") }
        #expect(error?.code == .resourceExhausted)
        for complete in service.kept.withLock({ $0 }) { complete(.success([])) }
        #expect(try await client.call("Echo") == Array("test.v1.Echo/".utf8))
    }

    @Test func aLostCallerIsReportedAndItsCallsFail() async throws {
        let client = try connect()
        async let call = client.call("Never", timeout: nil)
        while service.kept.withLock({ $0.isEmpty }) { try await Task.sleep(for: .milliseconds(1)) }
        client.close()
        await #expect(throws: SwiftletError.self) { _ = try await client.call("Echo") }
        for await _ in service.lost.stream {}
        do {
            _ = try await call
            Issue.record("the call of a closed connection was answered")
        } catch let error as SwiftletError {
            #expect(error.code == .unavailable)
        }
    }

    @Test func connectionsBeyondTheLimitAreClosed() async throws {
        let first = try connect()
        let second = try connect()
        let third = try connect()
        await #expect(throws: SwiftletError.self) { try await third.call("Echo") }
        #expect(try await first.call("Echo") == (try await second.call("Echo")))
    }
}

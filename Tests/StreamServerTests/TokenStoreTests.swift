import Errors
import Synchronization
import Testing

@testable import StreamServer

@Suite struct TokenStoreTests {
    private final class Clock: Sendable {
        private let time = Mutex(Duration.zero)
        func advance(by duration: Duration) { time.withLock { $0 += duration } }
        func store() -> TokenStore { TokenStore { self.time.withLock { $0 } } }
    }

    private func request(_ id: String = "c") throws -> StreamRequest {
        .exec(ExecRequest(containerID: id, command: ["id"], streams: try StreamSet(stdin: false, stdout: true, stderr: false, tty: false)))
    }

    @Test func aTokenIsGoodOnceAndForAMinute() throws {
        let clock = Clock()
        let store = clock.store()
        let (first, second) = (try store.mint(try request("1")), try store.mint(try request("2")))
        #expect(store.redeem(first) == (try request("1")))
        #expect(store.redeem(first) == nil)
        clock.advance(by: .seconds(59))
        #expect(store.redeem("") == nil)
        #expect(store.redeem(first.dropLast() + "A") == nil)
        #expect(store.redeem(second) == (try request("2")))
        let third = try store.mint(try request())
        clock.advance(by: .seconds(60))
        #expect(store.redeem(third) == nil)
    }

    @Test func tokensSayNothingFitAURLAndAreNeverTheSame() throws {
        let store = Clock().store()
        let tokens = try (0..<500).map { _ in try store.mint(try request()) }
        #expect(Set(tokens).count == tokens.count)
        #expect(tokens.allSatisfy { $0.count == 32 && $0.wholeMatch(of: /[A-Za-z0-9_-]+/) != nil })
    }

    @Test func noMoreThanAThousandWait() throws {
        let clock = Clock()
        let store = clock.store()
        let tokens = try (0..<1000).map { _ in try store.mint(try request()) }
        let error = #expect(throws: SwiftletError.self) { try store.mint(try self.request()) }
        #expect(error?.code == .resourceExhausted)
        #expect(store.redeem(tokens[500]) != nil)
        _ = try store.mint(try request())
        #expect(throws: SwiftletError.self) { try store.mint(try self.request()) }
        clock.advance(by: .seconds(61))
        for _ in 0..<1000 { _ = try store.mint(try request()) }
    }

    @Test func whatCannotBeServedIsRefusedBeforeATokenIsMade() {
        #expect(throws: SwiftletError.self) { try StreamSet(stdin: false, stdout: false, stderr: false, tty: false) }
        #expect(throws: SwiftletError.self) { try StreamSet(stdin: true, stdout: true, stderr: true, tty: true) }
        for port: Int32 in [0, -1, 65536] {
            #expect(throws: SwiftletError.self) { try PortForwardRequest(sandboxID: "s", ports: [80, port]) }
        }
    }
}

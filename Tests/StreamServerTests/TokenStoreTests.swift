import Errors
import Synchronization
import Testing

@testable import StreamServer

@Suite struct TokenStoreTests {
    private final class Clock: Sendable {
        private let time = Mutex(Duration.zero)
        func advance(by duration: Duration) { time.withLock { $0 += duration } }
        func store(_ places: SessionPlaces = SessionPlaces(limits: SessionLimits(container: 2000, pod: 2000, node: 2000))) -> TokenStore {
            TokenStore(places: places) { self.time.withLock { $0 } }
        }
    }

    private func request(_ id: String = "c") throws -> StreamRequest {
        .exec(ExecRequest(containerID: id, command: ["id"], streams: try StreamSet(stdin: false, stdout: true, stderr: false, tty: false)))
    }

    @Test func aTokenIsGoodOnceAndForAMinute() throws {
        let clock = Clock()
        let store = clock.store()
        let (first, second) = (try store.mint(try request("1")), try store.mint(try request("2")))
        #expect(store.redeem(first)?.request == (try request("1")))
        #expect(store.redeem(first)?.request == nil)
        clock.advance(by: .seconds(59))
        #expect(store.redeem("")?.request == nil)
        #expect(store.redeem(first.dropLast() + "A")?.request == nil)
        #expect(store.redeem(second)?.request == (try request("2")))
        let third = try store.mint(try request())
        clock.advance(by: .seconds(60))
        #expect(store.redeem(third)?.request == nil)
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
        #expect(store.redeem(tokens[500])?.request != nil)
        _ = try store.mint(try request())
        #expect(throws: SwiftletError.self) { try store.mint(try self.request()) }
        clock.advance(by: .seconds(61))
        for _ in 0..<1000 { _ = try store.mint(try request()) }
    }

    @Test func aPlaceIsTakenWithTheTokenAndFreeWithItsEnd() throws {
        let clock = Clock()
        let places = SessionPlaces(limits: SessionLimits(container: 2, pod: 3, node: 5))
        let store = clock.store(places)
        func request(_ container: String, pod: String) throws -> StreamRequest {
            let streams = try StreamSet(stdin: false, stdout: true, stderr: false, tty: false)
            return .exec(ExecRequest(containerID: container, address: pod, command: ["id"], streams: streams))
        }
        func refusal(_ request: StreamRequest) -> String {
            let error = #expect(throws: SwiftletError.self) { try store.mint(request) }
            #expect(error?.code == .resourceExhausted)
            return error.map { "\($0)" } ?? ""
        }
        let forward = StreamRequest.portForward(try PortForwardRequest(sandboxID: "p", address: "p", ports: []))
        let first = try store.mint(try request("a", pod: "p"))
        _ = try store.mint(try request("a", pod: "p"))
        #expect(refusal(try request("a", pod: "p")).contains("container a has 2"))
        _ = try store.mint(forward)
        #expect(refusal(try request("b", pod: "p")).contains("the pod has 3"))
        #expect(refusal(forward).contains("the pod has 3"))
        // Other pods are served meanwhile, up to the node's limit.
        for container in ["c", "d"] { _ = try store.mint(try request(container, pod: container)) }
        #expect(refusal(try request("e", pod: "e")).contains("the node has 5"))
        // A session has the place of its token.
        var session = store.redeem(first)
        #expect(refusal(try request("a", pod: "p")).contains("container a has 2"))
        #expect(session != nil)
        session = nil
        _ = try store.mint(try request("a", pod: "p"))
        clock.advance(by: .seconds(60))
        for _ in 0..<2 { _ = try store.mint(try request("a", pod: "p")) }
        places.limits = SessionLimits(container: 1, pod: 1, node: 1)
        #expect(refusal(try request("f", pod: "f")).contains("the node has 1"))
    }

    @Test func whatCannotBeServedIsRefusedBeforeATokenIsMade() {
        #expect(throws: SwiftletError.self) { try StreamSet(stdin: false, stdout: false, stderr: false, tty: false) }
        #expect(throws: SwiftletError.self) { try StreamSet(stdin: true, stdout: true, stderr: true, tty: true) }
        for port: Int32 in [0, -1, 65536] {
            #expect(throws: SwiftletError.self) { try PortForwardRequest(sandboxID: "s", ports: [80, port]) }
        }
    }
}

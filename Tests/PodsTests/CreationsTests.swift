import Errors
import Synchronization
import Testing

@testable import Pods
@testable import Runtime

@Suite struct CreationsTests {
    /// One creation that ends when it is told to, and those who ask for it.
    private final class Creation: Sendable {
        let creations = Creations()
        private let state = Mutex((made: 0, held: true))

        var made: Int { state.withLock { $0.made } }
        func release() { state.withLock { $0.held = false } }
        func remove() { state.withLock { $0.made = 0 } }

        func ask() async throws -> String {
            try await creations.run("name", what: "thing", existing: { self.made > 0 && !self.state.withLock { $0.held } ? "id" : nil }) {
                self.state.withLock { $0.made += 1 }
                while self.state.withLock({ $0.held }) { await Task.yield() }
                return "id"
            }
        }
    }

    /// A creation that goes on, whose caller has gone away.
    private func abandoned() async -> (Creation, caller: Task<String, any Error>) {
        let creation = Creation()
        let caller = Task { try await creation.ask() }
        while await creation.creations.waiting < 1 { await Task.yield() }
        caller.cancel()
        return (creation, caller)
    }

    @Test func aResultThatNobodyWasLeftToTakeWaitsForTheRetry() async throws {
        let (creation, first) = await abandoned()
        creation.release()
        _ = await first.result
        #expect(try await creation.ask() == "id")
        let duplicate = await #expect(throws: SwiftletError.self) { try await creation.ask() }
        #expect(duplicate?.code == .alreadyExists && duplicate?.message.contains("id") == true)
        #expect(creation.made == 1)
    }

    @Test func aRetryJoinsWhatItsPredecessorBegan() async throws {
        let (creation, first) = await abandoned()
        async let second = creation.ask()
        while await creation.creations.waiting < 2 { await Task.yield() }
        creation.release()
        #expect(try await second == "id")
        _ = await first.result
        let third = await #expect(throws: SwiftletError.self) { try await creation.ask() }
        #expect(third?.code == .alreadyExists)
        #expect(creation.made == 1)
    }

    @Test func whatIsRemovedBeforeItWasTakenIsForgotten() async throws {
        let (creation, first) = await abandoned()
        creation.release()
        _ = await first.result
        #expect(await creation.creations.left == 1)
        creation.remove()
        _ = try await creation.creations.run("other", what: "thing", existing: { nil }) { "id2" }
        #expect(await creation.creations.left == 0)
    }
}

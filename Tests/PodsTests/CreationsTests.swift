import Errors
import Logging
import Support
import Synchronization
import Testing

@testable import Pods
@testable import Runtime

@Suite(.timeLimit(.minutes(2))) struct CreationsTests {
    /// One creation that ends when it is told to, and those who ask for it.
    private final class Creation: Sendable {
        let creations: Creations
        private let state = Mutex((made: 0, held: true, exists: false, undone: 0, cancelled: 0))

        var made: Int { state.withLock { $0.made } }
        var undone: Int { state.withLock { $0.undone } }
        var cancelled: Int { state.withLock { $0.cancelled } }
        func release() { state.withLock { $0.held = false } }

        init(grace: Duration = .seconds(600), cancels: Bool = false) {
            creations = Creations(grace: grace, cancels: cancels, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        }

        func ask() async throws -> String {
            let request = Creations.Request(key: "name", what: "thing") {
                self.state.withLock { $0.exists } ? "id" : nil
            } undo: { _ in
                self.state.withLock { ($0.exists, $0.undone) = (false, $0.undone + 1) }
            }
            return try await creations.run(request) {
                self.state.withLock { $0.made += 1 }
                while self.state.withLock({ $0.held }) {
                    if Task.isCancelled {
                        self.state.withLock { $0.cancelled += 1 }
                        throw CancellationError()
                    }
                    await Task.yield()
                }
                self.state.withLock { $0.exists = true }
                return "id"
            }
        }
    }

    /// Asks for a creation, and goes away while it goes on.
    private func abandon(_ creation: Creation) async -> Task<String, any Error> {
        let caller = Task { try await creation.ask() }
        while creation.creations.waiting < 1 { await Task.yield() }
        caller.cancel()
        return caller
    }

    @Test func aResultThatNobodyWasLeftToTakeWaitsForTheRetry() async throws {
        let creation = Creation()
        let first = await abandon(creation)
        creation.release()
        _ = await first.result
        #expect(try await creation.ask() == "id")
        let duplicate = await #expect(throws: SwiftletError.self) { try await creation.ask() }
        #expect(duplicate?.code == .alreadyExists && duplicate?.message.contains("id") == true)
        #expect(creation.made == 1 && creation.undone == 0)
    }

    @Test func aRetryJoinsWhatItsPredecessorBegan() async throws {
        let creation = Creation(cancels: true)
        let first = await abandon(creation)
        async let second = creation.ask()
        while creation.creations.waiting < 2 { await Task.yield() }
        creation.release()
        #expect(try await second == "id")
        _ = await first.result
        let third = await #expect(throws: SwiftletError.self) { try await creation.ask() }
        #expect(third?.code == .alreadyExists)
        #expect(creation.made == 1)
    }

    @Test func whatNobodyTakesIsUndoneAndTheNameIsFreeAgain() async throws {
        let creation = Creation(grace: .milliseconds(50))
        let first = await abandon(creation)
        creation.release()
        _ = await first.result
        try await eventually("it is undone") { creation.undone == 1 }
        #expect(creation.creations.left == 0)
        #expect(try await creation.ask() == "id")
        #expect(creation.made == 2)
    }

    @Test func whatIsUsedInAnotherCallIsTaken() async throws {
        let creation = Creation(grace: .milliseconds(200))
        let first = await abandon(creation)
        creation.release()
        _ = await first.result
        creation.creations.claim("id")
        #expect(creation.creations.left == 0)
        try await Task.sleep(for: .milliseconds(600))
        #expect(creation.undone == 0)
        let retry = await #expect(throws: SwiftletError.self) { try await creation.ask() }
        #expect(retry?.code == .alreadyExists)
    }

    @Test func aCreationThatNobodyWaitsForIsCancelledAfterTheGrace() async throws {
        let creation = Creation(grace: .milliseconds(50), cancels: true)
        let first = await abandon(creation)
        try await eventually("it is cancelled") { creation.cancelled == 1 }
        await #expect(throws: CancellationError.self) { try await first.value }
        creation.release()
        #expect(try await creation.ask() == "id")
    }
}

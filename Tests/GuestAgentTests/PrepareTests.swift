import AgentClient
import AgentProtocol
import Errors
import Glibc
import Testing

@testable import GuestAgent

/// What a guest does before there is a pod.
@Suite(.timeLimit(.minutes(1))) struct PrepareTests {
    private static let timeout = Duration.seconds(30)

    private static let trial = trial("exit 0")

    private static func trial(_ script: String) -> AgentPrepareRequest {
        .with {
            $0.container.root.layers = [.with { ($0.serial, $0.filesystem) = ("modules", "erofs") }]
            $0.container.process.args = ["/bin/sh", "-c", script]
        }
    }

    @Test func aPreparedGuestIsNobodysAndHoldsNoContainer() async throws {
        let guest = try TestGuest()
        let client = try await guest.connect()
        for request in [Self.trial, AgentPrepareRequest()] { _ = try await client.call(.prepare, request, timeout: Self.timeout) }
        #expect(try await client.call(.list, .init(), timeout: Self.timeout).containers.isEmpty)
        let again = try await guest.connect()
        #expect(again.info.sandboxID.isEmpty)
        _ = try await client.call(.startSandbox, .with { $0.sandboxID = "sandbox" }, timeout: Self.timeout)
    }

    @Test func theTrialsCommandHasRunWhenAGuestIsPrepared() async throws {
        let guest = try TestGuest()
        let client = try await guest.connect()
        let proof = guest.directory + "/proof"
        defer { unlink(proof) }
        _ = try await client.call(.prepare, Self.trial("sleep 0.3; echo >\(proof)"), timeout: Self.timeout)
        #expect(access(proof, F_OK) == 0)
        let error = await #expect(throws: SwiftletError.self) {
            try await client.call(.prepare, Self.trial("exit 3"), timeout: Self.timeout)
        }
        #expect(error.map { "\($0)" }?.contains("the trial exited with 3") == true)
        #expect(try await client.call(.list, .init(), timeout: Self.timeout).containers.isEmpty)
    }

    @Test func aPodsGuestIsPreparedForNobodyElse() async throws {
        let guest = try TestGuest()
        let client = try await guest.start()
        let error = await #expect(throws: SwiftletError.self) { try await client.call(.prepare, Self.trial, timeout: Self.timeout) }
        #expect(error?.code == .failedPrecondition)
    }
}

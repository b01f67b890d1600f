import AgentClient
import AgentProtocol
import Errors
import Linux
import Runtime
import StreamControl
import Synchronization

/// The guests whose sessions and logs are served.
final class Guests: Sendable {
    let links: AgentLinks
    private let culprits: Culprits
    private let pending = Atomic(0)

    init(culprits: Culprits) {
        self.culprits = culprits
        links = AgentLinks { try culprits.mark(for: $0) }
    }

    /// Takes in a guest that swiftletd has named.
    ///
    /// - Throws: `.failedPrecondition` for one on whose data a process before this one has crashed.
    func admit(_ guest: StreamGuest) throws -> VsockAddress {
        let address = try guest.vsockAddress()
        try culprits.check(address)
        return address
    }

    /// As it is, for a console: nothing that comes from one is taken apart here but into lines.
    func admit(_ endpoint: OutputEndpoint) throws -> OutputEndpoint {
        if case .agent(let address, _) = endpoint { try culprits.check(address) }
        return endpoint
    }

    func admit(_ endpoint: PortEndpoint) throws -> PortEndpoint {
        if case .agent(let address) = endpoint { try culprits.check(address) }
        return endpoint
    }

    func link(to address: VsockAddress) async throws -> AgentLink { try await links.link(to: address) }

    /// Waits for a process's end, through lost connections.
    ///
    /// - Parameter process: empty: the container's first.
    /// - Throws: `.unavailable` when the guest has not come back in time; `.notFound` for a process that it does not know.
    func exit(of container: String, process: String = "", at address: VsockAddress) async throws -> AgentWaitResponse {
        let link = try await link(to: address)
        while true {
            do {
                return try await link.client().wait(containerID: container, processID: process)
            } catch let error as SwiftletError where error.code == .unavailable && !link.isLost {
                try await Task.sleep(for: .milliseconds(100))
            }
        }
    }

    /// What is done after a session, such as ending its process. It is not the session's client who waits for it.
    func afterwards(_ work: @escaping @Sendable () async -> Void) {
        pending.wrappingAdd(1, ordering: .relaxed)
        Task {
            await work()
            pending.wrappingSubtract(1, ordering: .relaxed)
        }
    }

    /// Returns when nothing of that is left, or the time has passed.
    func rest(within limit: Duration) async {
        let end = ContinuousClock.now + limit
        // Sessions that were ended just now have not come here yet.
        repeat { try? await Task.sleep(for: .milliseconds(100)) } while pending.load(ordering: .relaxed) > 0 && .now < end
    }
}

import Errors
import Synchronization

/// The connection to one machine's agent, made anew when it breaks.
public final class AgentLink: Sendable {
    private enum State {
        case connected(AgentClient)
        case connecting(Task<AgentClient, any Error>)
        /// The agent did not come back in time, or the link was closed.
        case lost(String)
    }

    /// How long a lost agent may take to answer again before the machine is given up.
    public static let patience: Duration = .seconds(20)

    private let address: VsockAddress
    private let state: Mutex<State>

    public init(address: VsockAddress, client: AgentClient) {
        self.address = address
        state = Mutex(.connected(client))
    }

    public var isLost: Bool {
        state.withLock { if case .lost = $0 { true } else { false } }
    }

    /// A live connection.
    ///
    /// - Throws: `.unavailable` when the agent is lost for good.
    public func client() async throws -> AgentClient {
        enum Step {
            case use(AgentClient)
            case join(Task<AgentClient, any Error>)
            case fail(String)
        }
        let step: Step = state.withLock { state in
            switch state {
            case .connected(let client) where !client.isClosed: return .use(client)
            case .connected:
                let task = Task { try await self.reconnect() }
                state = .connecting(task)
                return .join(task)
            case .connecting(let task): return .join(task)
            case .lost(let reason): return .fail(reason)
            }
        }
        switch step {
        case .use(let client): return client
        case .join(let task): return try await task.value
        case .fail(let reason): throw SwiftletError(.unavailable, "agent: \(reason)")
        }
    }

    private func reconnect() async throws -> AgentClient {
        do {
            let client = try await AgentClient.connect(to: address, deadline: .now + Self.patience)
            let kept = state.withLock { state in
                if case .lost = state { return false }
                state = .connected(client)
                return true
            }
            if kept { return client }
            client.close()
            throw SwiftletError(.unavailable, "agent: closed")
        } catch {
            state.withLock { state in
                if case .lost = state { return }
                state = .lost("no answer within \(Self.patience.components.seconds) s after a lost connection")
            }
            throw error
        }
    }

    /// Returns the reason when the agent is lost for good; nil when the caller is cancelled or the link was closed.
    public func lostForGood() async -> String? {
        while !Task.isCancelled {
            if let reason = state.withLock({ state -> String? in if case .lost(let reason) = state { reason } else { nil } }) {
                return reason == Self.closedReason ? nil : reason
            }
            guard let client = try? await client() else { continue }
            await client.closed
        }
        return nil
    }

    private static let closedReason = "closed"

    /// Ends the connection for good.
    public func close() {
        let previous = state.withLock { state in
            defer { state = .lost(Self.closedReason) }
            return state
        }
        switch previous {
        case .connected(let client): client.close()
        case .connecting(let task): task.cancel()
        case .lost: break
        }
    }
}

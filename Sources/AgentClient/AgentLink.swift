import Concurrency
import Errors
import Linux
import Runtime
import Synchronization

/// The connection to one machine's agent, made anew when it breaks.
public final class AgentLink: Sendable {
    private enum State {
        case connected(AgentClient)
        /// The agent did not come back in time, or the link was closed.
        case lost(String)
    }

    /// How long a lost agent may take to answer again before the machine is given up.
    public static let patience: Duration = .seconds(20)

    public let address: VsockAddress
    /// Held while what the guest sends is worked on.
    public let mark: CrashMark
    private let state: Mutex<State>
    /// Connections in a row that did not last, and when the one of the moment was made.
    private let shortLived = Mutex((count: 0, since: ContinuousClock.now))
    private let reconnections = SingleFlight<NoKey, AgentClient>(whenAbandoned: .finish)
    private let clock = Mutex<Task<Void, Never>?>(nil)

    /// - Parameter clockIsRight: the guest has just got the time, or gets it with StartSandbox; else it gets it at once. Nil: somebody else
    ///   keeps its clock.
    public init(address: VsockAddress, client: AgentClient, mark: CrashMark, clockIsRight: Bool?) {
        self.address = address
        self.mark = mark
        state = Mutex(.connected(client))
        guard let clockIsRight else { return }
        let keeper = ClockKeeper(now: WallClock.now) { [weak self] in
            guard let self, !isLost else { return nil }
            return try await self.client()
        }
        clock.withLock { $0 = Task { await keeper.run(atOnce: !clockIsRight) } }
    }

    deinit { clock.withLock { $0 }?.cancel() }

    /// Whether there is a connection now.
    public var isConnected: Bool {
        state.withLock { if case .connected(let client) = $0 { !client.isClosed } else { false } }
    }

    public var isLost: Bool {
        state.withLock { if case .lost = $0 { true } else { false } }
    }

    /// A live connection.
    ///
    /// - Throws: `.unavailable` when the agent is lost for good.
    public func client() async throws -> AgentClient {
        if let client = try live() { return client }
        return try await reconnections.run { [self] in try await reconnect() }
    }

    /// The connection, if it is not lost.
    private func live() throws -> AgentClient? {
        try state.withLock { state in
            switch state {
            case .connected(let client): return client.isClosed ? nil : client
            case .lost(let reason): throw SwiftletError(.unavailable, "agent: \(reason)")
            }
        }
    }

    private func reconnect() async throws -> AgentClient {
        // The reconnection before this one may have ended since the caller looked.
        if let client = try live() { return client }
        do {
            try await Task.sleep(for: pause())
            let client = try await AgentClient.connect(to: address, deadline: .now + Self.patience, mark: mark)
            let kept = state.withLock { state in
                if case .lost = state { return false }
                state = .connected(client)
                return true
            }
            if kept {
                shortLived.withLock { $0.since = .now }
                return client
            }
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

    /// How long a connection has to last for the next one to be made at once.
    private static let lasting = Duration.seconds(5)

    /// A guest that answers and hangs up, again and again, is asked ever less often: every 2 s at last.
    private func pause() -> Duration {
        shortLived.withLock { state in
            state.count = .now - state.since < Self.lasting ? state.count + 1 : 0
            return state.count == 0 ? .zero : min(.milliseconds(10) * (1 << min(state.count - 1, 8)), .seconds(2))
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
        clock.withLock { $0 }?.cancel()
        let previous = state.withLock { state in
            defer { state = .lost(Self.closedReason) }
            return state
        }
        switch previous {
        case .connected(let client): client.close()
        case .lost: break
        }
        reconnections.cancel()
    }
}

import AgentClient
import Concurrency
import Errors
import Linux
import Runtime
import StreamControl
import Synchronization

/// Links to guests' agents, which a guest's sessions share. One is made when it is needed, and forgotten when it is lost.
final class Guests: Sendable {
    /// How long a guest may take to answer. It is up: its container is there.
    private static let patience = Duration.seconds(10)

    private let crashes: CrashRecord?
    private let known = Mutex<[VsockAddress: AgentLink]>([:])
    private let pending = Atomic(0)
    private let connections = SingleFlight<VsockAddress, AgentLink>(whenAbandoned: .finish)

    /// - Parameter crashes: says whose data the process before crashed on.
    init(crashes: CrashRecord?) { self.crashes = crashes }

    /// Takes in a guest that swiftletd has named.
    ///
    /// - Throws: `.failedPrecondition` for one whose data the process before has crashed on.
    func admit(_ guest: StreamGuest) throws -> VsockAddress {
        let address = try guest.vsockAddress()
        try check(address)
        return address
    }

    private func check(_ address: VsockAddress) throws {
        guard crashes?.last?.culprit == Self.name(address) else { return }
        throw SwiftletError(
            .failedPrecondition, "swiftlet-streamd crashed on what this guest (\(Self.name(address))) sent; it is not connected to again")
    }

    /// Tells a guest from the others, within the length of a mark's name.
    private static func name(_ address: VsockAddress) -> String {
        switch address {
        case .unixProxy(let path): String(decoding: path.utf8.suffix(60), as: UTF8.self)
        case .kernel(let cid): "context id \(cid)"
        }
    }

    func link(to address: VsockAddress) async throws -> AgentLink {
        if let link = live(address) { return link }
        return try await connections.run(address) { [self] in try await connect(address) }
    }

    private func live(_ address: VsockAddress) -> AgentLink? {
        known.withLock { known in known[address].flatMap { $0.isLost ? nil : $0 } }
    }

    private func connect(_ address: VsockAddress) async throws -> AgentLink {
        if let link = live(address) { return link }
        try check(address)
        let mark = crashes?.mark(for: Self.name(address)) ?? CrashMark()
        let client = try await AgentClient.connect(to: address, deadline: .now + Self.patience, mark: mark)
        let link = AgentLink(address: address, client: client, mark: mark, clockIsRight: nil)
        known.withLock { $0[address] = link }
        Task {
            _ = await link.lostForGood()
            known.withLock { known in
                if known[address] === link { known[address] = nil }
            }
        }
        return link
    }

    // MARK: The end

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

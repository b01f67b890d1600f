import Concurrency
import Errors
import Linux
import Runtime
import Synchronization

/// Links to guests' agents by address, one for all who read from a guest. One is made when it is needed, and forgotten when it is lost.
public final class AgentLinks: Sendable {
    /// The mark for what a guest sends. What it throws refuses the guest.
    public typealias Marks = @Sendable (VsockAddress) throws -> CrashMark

    /// How long a guest may take to answer. It is up: its container is there.
    private static let patience = Duration.seconds(10)

    private let marks: Marks
    private let known = Mutex<[VsockAddress: AgentLink]>([:])
    private let connections = SingleFlight<VsockAddress, AgentLink>(whenAbandoned: .finish)

    public init(marks: @escaping Marks = { _ in CrashMark() }) { self.marks = marks }

    /// The link, which is lost when its guest has not come back in time: ask again for the next.
    ///
    /// - Throws: `.unavailable` when the guest does not answer.
    public func link(to address: VsockAddress) async throws -> AgentLink {
        if let link = live(address) { return link }
        return try await connections.run(address) { [self] in try await connect(address) }
    }

    private func live(_ address: VsockAddress) -> AgentLink? {
        known.withLock { known in known[address].flatMap { $0.isLost ? nil : $0 } }
    }

    private func connect(_ address: VsockAddress) async throws -> AgentLink {
        if let link = live(address) { return link }
        let mark = try marks(address)
        let client: AgentClient
        do {
            client = try await AgentClient.connect(to: address, deadline: .now + Self.patience, mark: mark)
        } catch let error as SwiftletError where error.code != .cancelled {
            throw SwiftletError(.unavailable, "the machine's agent is not reached", cause: error)
        }
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
}

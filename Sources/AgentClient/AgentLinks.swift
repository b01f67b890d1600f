import Runtime
import Synchronization

/// The links that this process has, by address: whoever reads from a guest shares the connection of who runs it.
public final class AgentLinks: Sendable {
    private let links = Mutex<[VsockAddress: AgentLink]>([:])

    public init() {}

    public func add(_ link: AgentLink) {
        links.withLock { $0[link.address] = link }
    }

    /// Does nothing when another link has taken the address.
    public func remove(_ link: AgentLink) {
        links.withLock { if $0[link.address] === link { $0[link.address] = nil } }
    }

    func link(to address: VsockAddress) -> AgentLink? { links.withLock { $0[address] } }
}

import Runtime
import Synchronization

/// The links that this process has, by address: whoever reads from a guest shares the connection of who runs it.
public final class AgentLinks: Sendable {
    /// Held by who runs the guest.
    private struct Reference {
        weak var link: AgentLink?
    }

    private let links = Mutex<[VsockAddress: [Reference]]>([:])

    public init() {}

    public func add(_ link: AgentLink) {
        links.withLock { $0[link.address, default: []].append(Reference(link: link)) }
    }

    public func remove(_ link: AgentLink) {
        links.withLock { links in
            let left = links[link.address, default: []].filter { $0.link != nil && $0.link !== link }
            links[link.address] = left.isEmpty ? nil : left
        }
    }

    /// The newest that is there. An attempt to find a guest again that was given up may have left others.
    func link(to address: VsockAddress) -> AgentLink? {
        links.withLock { $0[address]?.lazy.compactMap(\.link).last { !$0.isLost } }
    }
}

import Errors
import Linux
import Logging
import Runtime
import Synchronization

/// Answers the DHCP clients of machines and advertises their routers, each on its tap; one thread for all of them.
public final class AddressResponders: Sendable {
    private let loop: EventLoop
    private let logger: Logger

    public init(logger: Logger) throws {
        loop = try EventLoop(name: "dhcp")
        self.logger = logger
    }

    /// Answers until the responder is stopped or the tap is gone.
    ///
    /// - Parameters:
    ///   - offer: of IPv4; nil: the interface has none.
    ///   - ipv6: nil: the interface has none.
    ///   - namespace: path of the network namespace that the tap and the pod's interface are in.
    ///   - tap: the machine's end, joined with the pod's interface or not.
    public func start(
        _ offer: AddressOffer?, _ ipv6: IPv6Offer? = nil, tap: String, in namespace: String
    ) async throws -> AddressResponder {
        let (socket, uplink) = try await NetworkNamespace.run(in: namespace) {
            let socket = try RequestSocket(link: tap, .requests(router: nil))
            guard let ipv6, let gateway = ipv6.gateway, !gateway.isLinkLocal, let words = IPv6Words(gateway) else {
                return (socket, nil as RequestSocket?)
            }
            return (socket, try RequestSocket(link: ipv6.interface, .advertisements(of: words)))
        }
        return try AddressResponder(offer, ipv6, socket, uplink, loop, logger)
    }
}

/// The servers of one interface. ``stop()`` ends them; so does its last reference.
public final class AddressResponder: Sendable {
    private let offer: AddressOffer?
    private let ipv6: IPv6Offer?
    private let reader: FrameReader
    private let router: RouterResponder?
    private let budget = Mutex(FrameBudget.answers)

    fileprivate init(
        _ offer: AddressOffer?, _ ipv6: IPv6Offer?, _ socket: RequestSocket, _ uplink: RequestSocket?, _ loop: EventLoop, _ logger: Logger
    ) throws {
        (self.offer, self.ipv6) = (offer, ipv6)
        reader = FrameReader(socket, loop)
        router = try ipv6.map { try RouterResponder($0, tap: socket, uplink: uplink, loop) }
        try reader.start { [weak self] in self?.answer($0) }
        try router?.start()
        let addresses = [offer.map { "\($0.address)" }, ipv6?.addresses.first.map { "\($0)" }].compactMap { $0 }.joined(separator: " ")
        logger.debug("answering DHCP", metadata: ["addresses": "\(addresses)"])
    }

    deinit { stop() }

    public func stop() {
        router?.stop()
        reader.stop()
    }

    /// Frames of the guest that were looked at.
    var frames: Int { reader.frames }

    private func answer(_ frame: [UInt8]) {
        guard let answer = Self.answer(to: frame, offer, ipv6, router), budget.withLock({ $0.take(at: .now) }) else { return }
        reader.socket.send(answer)
    }

    private static func answer(to frame: [UInt8], _ offer: AddressOffer?, _ ipv6: IPv6Offer?, _ router: RouterResponder?) -> [UInt8]? {
        guard frame.count > 14 else { return nil }
        if frame[12] == 0x08 {
            guard let offer, let request = DHCPRequest(frame: frame) else { return nil }
            return DHCPAnswer(to: request, offer)?.frame
        }
        guard let ipv6 else { return nil }
        guard let request = DHCPv6Request(frame: frame) else { return router?.answer(frame) }
        return DHCPv6Answer(to: request, ipv6)?.frame
    }
}

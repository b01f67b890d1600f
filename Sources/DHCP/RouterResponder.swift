import Linux
import Synchronization

/// The IPv6 side of one interface's responder: advertises the pod's gateway as a router, and says who it is.
///
/// An advertisement is sent by a router's link-local address, and the default route leads there. Where CNI's gateway is a link-local address,
/// it is that one, which answers for itself. Otherwise nothing says which link-local address the gateway has. Its MAC address is what counts:
/// it is asked for as the machine would ask, and the router's address is the one that Linux makes of that MAC address. A bridge answers for
/// it as a rule; where it does not, having made its own in another way, this responder does.
final class RouterResponder: Sendable {
    private struct State {
        var router: RouterAdvertisement.Router?
        var timer: EventLoop.Timer?
        var isStopped = false
        /// Of questions for the gateway.
        var questions = FrameBudget.answers
    }

    /// Between advertisements that nobody asked for: what has changed is learnt by then.
    private static let interval = Duration.seconds(600)

    private let offer: IPv6Offer
    private let tap: RequestSocket
    /// On the pod's interface; nil where the gateway answers for itself, or there is none.
    private let uplink: FrameReader?
    private let loop: EventLoop
    private let state: Mutex<State>

    init(_ offer: IPv6Offer, tap: RequestSocket, uplink: RequestSocket?, _ loop: EventLoop) throws {
        (self.offer, self.tap, self.loop) = (offer, tap, loop)
        self.uplink = uplink.map { FrameReader($0, loop) }
        let router = offer.gateway.flatMap { $0.isLinkLocal ? RouterAdvertisement.Router(address: $0.bytes) : nil }
        state = Mutex(State(router: router))
    }

    func start() throws {
        try uplink?.start { [weak self] in self?.heard($0) }
        ask()
        advertiseAgain()
    }

    func stop() {
        uplink?.stop()
        let timer = state.withLock { state in
            state.isStopped = true
            defer { state.timer = nil }
            return state.timer
        }
        if let timer { loop.cancel(timer) }
    }

    /// What to answer to a frame of the machine's.
    func answer(_ bytes: [UInt8]) -> [UInt8]? {
        guard let frame = IPv6Frame(bytes), frame.sourceMAC == offer.mac.bytes, case .icmp(let type) = frame.kind else { return nil }
        switch type {
        case Neighbour.routerSolicitation:
            ask()
            return RouterAdvertisement(offer: offer, router: state.withLock { $0.router }).frame
        case Neighbour.solicitation:
            // The gateway may be another device by now.
            ask()
            return state.withLock { $0.router }.flatMap { Neighbour.answer(frame, $0) }
        default: return nil
        }
    }

    private func ask() {
        guard let uplink, let gateway = offer.gateway, let question = Neighbour.solicit(gateway, for: offer) else { return }
        guard state.withLock({ $0.questions.take(at: .now) }) else { return }
        uplink.socket.send(question)
    }

    private func heard(_ frame: [UInt8]) {
        guard let gateway = offer.gateway, let mac = Neighbour.mac(in: frame, of: gateway), mac != offer.mac.bytes else { return }
        let router = state.withLock { state -> RouterAdvertisement.Router? in
            guard !state.isStopped, state.router?.mac != mac else { return nil }
            // The address stays, by which the machine has its route.
            let router = RouterAdvertisement.Router(address: state.router?.address ?? IPAddress.linkLocal(mac), mac: mac)
            state.router = router
            return router
        }
        guard let router, let words = IPAddress(bytes: router.address).flatMap(IPv6Words.init) else { return }
        try? FrameFilter.requests(router: words).attach(to: tap.descriptor, "answer for the router")
        tap.send(RouterAdvertisement(offer: offer, router: router).frame)
    }

    private func advertiseAgain() {
        let router = state.withLock { state in
            guard !state.isStopped else { return nil as RouterAdvertisement.Router? }
            state.timer = loop.schedule(at: .now + Self.interval) { [weak self] in
                self?.ask()
                self?.advertiseAgain()
            }
            return state.router
        }
        if let router { tap.send(RouterAdvertisement(offer: offer, router: router).frame) }
    }
}

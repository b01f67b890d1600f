import Errors
import Logging
import Synchronization

/// Whether the network's plugins say that pods can be attached. A plugin that fails for a moment, as when its daemon is replaced,
/// does not make the node NotReady.
final class NetworkReadiness: Sendable {
    private struct State {
        var network: CNINetworkList?
        var readyAt: ContinuousClock.Instant?
        var isFailing = false
    }

    private let grace: Duration
    private let logger: Logger
    private let state = Mutex(State())

    init(grace: Duration, logger: Logger) {
        self.grace = grace
        self.logger = logger
    }

    /// Takes in what the plugins of a network said.
    ///
    /// - Returns: the failure that counts; nil within the grace.
    func take(_ failure: SwiftletError?, of network: CNINetworkList) -> SwiftletError? {
        let (counts, isFirst) = state.withLock { state in
            if state.network != network { state = State(network: network) }
            guard failure != nil else {
                state.readyAt = .now
                state.isFailing = false
                return (false, false)
            }
            defer { state.isFailing = true }
            return (state.readyAt.map { .now - $0 > grace } ?? true, !state.isFailing)
        }
        guard let failure else { return nil }
        if isFirst {
            logger.warning(
                "a network plugin cannot attach pods",
                metadata: ["network": "\(network.name)", "error": "\(failure)", "counts": "\(counts)"])
        }
        return counts ? failure : nil
    }
}

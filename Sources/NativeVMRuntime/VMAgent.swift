import AgentClient
import Concurrency
import Errors
import Linux
import Logging
import Runtime
import Synchronization

/// Swiftlet's agent in the guest of one machine.
///
/// It is looked for as long as the machine runs: a guest may boot for minutes, boot again, start the agent late or never. While it
/// answers, the guest's clock is kept at the node's.
final class VMAgent: Sendable {
    /// Between two looks: longer after each that was in vain.
    private static let shortestPause = Duration.seconds(1)
    private static let longestPause = Duration.seconds(15)
    /// How long one look takes at most.
    private static let look = Duration.seconds(2)

    let address: VsockAddress
    private let mark: CrashMark
    private let logger: Logger
    private let state = Mutex<(link: AgentLink?, search: Task<Void, Never>?, isClosed: Bool)>((nil, nil, false))
    private let looks = SingleFlight<NoKey, AgentLink>(whenAbandoned: .finish)

    init(address: VsockAddress, mark: CrashMark, logger: Logger) {
        self.address = address
        self.mark = mark
        self.logger = logger
    }

    /// Looks for it from now on.
    func start() {
        let search = Task { await self.search() }
        let isClosed = state.withLock { state in
            state.search = search
            return state.isClosed
        }
        if isClosed { search.cancel() }
    }

    func close() {
        let (link, search) = state.withLock { state in
            state.isClosed = true
            return (state.link, state.search)
        }
        search?.cancel()
        link?.close()
    }

    private func search() async {
        var pause = Self.shortestPause
        while !Task.isCancelled {
            if let link = try? await link(within: Self.look) {
                logger.debug("the guest's agent answers", metadata: ["address": "\(address)"])
                pause = Self.shortestPause
                _ = await link.lostForGood()
            }
            do { try await Task.sleep(for: pause) } catch { return }
            pause = min(pause * 3 / 2, Self.longestPause)
        }
    }

    /// The connection, where it was found and not lost since.
    var known: AgentLink? { state.withLock { $0.link.flatMap { $0.isConnected ? $0 : nil } } }

    /// A connection over which it answers.
    ///
    /// - Throws: `.unavailable` or `.deadlineExceeded` when it does not within `limit`.
    func link(within limit: Duration) async throws -> AgentLink {
        try await withDeadline(limit, "reach the guest's agent") { [self] in
            let known = state.withLock { $0.link }
            guard let known, !known.isLost else { return try await looks.run { [self] in try await connect() } }
            _ = try await known.client()
            return known
        }
    }

    private func connect() async throws -> AgentLink {
        // No second attempt: one is made with each look.
        let client = try await AgentClient.connect(to: address, deadline: .now + Self.look, mark: mark, pause: Self.look)
        let link = AgentLink(address: address, client: client, mark: mark, clockIsRight: false)
        let isClosed = state.withLock { state in
            if !state.isClosed { state.link = link }
            return state.isClosed
        }
        guard !isClosed else {
            link.close()
            throw SwiftletError(.unavailable, "the machine is given up")
        }
        return link
    }
}

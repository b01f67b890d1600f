import Concurrency
import Foundation

/// One pull or load, as the one that places are shared with.
struct PullID: Hashable, Sendable {
    private let id = UUID()
}

/// What one pull or load has of the node.
struct PullShare: Sendable {
    let id = PullID()
    /// Layers on their way or being converted.
    let layers: AsyncSemaphore
    let throughput: PullThroughput

    init(_ configuration: ImageStoreConfiguration) {
        layers = AsyncSemaphore(permits: configuration.downloads.perPull)
        throughput = PullThroughput(configuration.leastThroughput)
    }
}

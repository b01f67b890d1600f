import Runtime

extension PodNetworks: NodeNetwork {
    public func obstacle() async -> String? {
        switch await status() {
        case .ready: nil
        case .notReady(let reason): reason
        }
    }

    public var releasers: [ResourceReleaser] {
        [
            ResourceReleaser(.networkNamespace) { entry in try await self.deleteNamespace(path: entry.name) },
            ResourceReleaser(.networkAttachment) { entry in try await self.detach(entry.decoded(PodNetworkRequest.self)) },
        ]
    }
}

import Runtime

extension PodNetworks: NodeNetwork {
    public func obstacle() async -> String? {
        switch await status() {
        case .ready: nil
        case .notReady(let reason): reason
        }
    }

    public func leftovers(besides isKnown: @Sendable (_ pod: String) -> Bool) async throws -> [Leftover] {
        try await attached().filter { !isKnown($0.podID) }.flatMap { request in
            [
                try Leftover(pod: request.podID, kind: .networkNamespace, name: request.namespacePath, document: EmptyDocument()),
                try Leftover(pod: request.podID, kind: .networkAttachment, name: request.podID, document: request),
            ]
        }
    }

    public var releasers: [ResourceReleaser] {
        [
            ResourceReleaser(.networkNamespace) { entry in try await self.deleteNamespace(path: entry.name) },
            ResourceReleaser(.networkAttachment, beginsAtOnce: true) { entry in try await self.detach(entry.decoded(PodNetworkRequest.self))
            },
        ]
    }
}

import Concurrency
import Errors
import Glibc
import Linux
import Runtime

/// What pods on the node have, and how it is released, whatever handlers are configured.
public struct HostResources: Sendable {
    let configuration: HostConfiguration
    let layers: LayerMounts
    let pause: PauseProgram

    public init(configuration: HostConfiguration) {
        self.configuration = configuration
        layers = LayerMounts(directory: HostNames.layers(configuration))
        pause = PauseProgram(path: configuration.pause)
    }

    public var releasers: [ResourceReleaser] {
        let layers = layers
        return [
            ResourceReleaser(.hostNamespace) { entry in try await OwnThread.run { try Self.unbind(entry.name) } },
            ResourceReleaser(.hostMount) { entry in try await OwnThread.run { try NodeMount.remove(entry.name) } },
            ResourceReleaser(.hostPause) { entry in
                let document = try entry.decoded(PauseDocument.self)
                try await OwnThread.run { try document.end() }
            },
            ResourceReleaser(.hostRoot, scope: .container) { entry in
                let serials = try entry.decoded(HostRootDocument.self).layers
                let bundle = ContainerBundle(directory: entry.name)
                try await OwnThread.run {
                    try ImageMount.remove(below: bundle.images)
                    try NodeMount.remove(bundle.root)
                }
                try await layers.leave(serials, entry.owner)
            },
            // Of the sandbox's scope: its processes end before namespaces and network are taken away.
            ResourceReleaser(.hostContainer, scope: .sandbox) { entry in
                try await ContainerEnd.end(entry.name, try entry.decoded(HostContainerDocument.self))
            },
        ]
    }

    private static func unbind(_ path: String) throws {
        try NodeMount.remove(path)
        guard unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR else { throw SwiftletError.system("remove \(path)") }
    }
}

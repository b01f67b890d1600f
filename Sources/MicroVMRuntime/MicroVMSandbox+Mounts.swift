import AgentProtocol
import Concurrency
import Errors
import Linux
import Runtime
import Volumes

extension MicroVMSandbox {
    /// Makes what a container's mounts need on the node, and says how the guest has to make them.
    ///
    /// - Parameter ledger: the container's; its mounts in the pod's share are written down there.
    /// - Throws: errors naming the mount's container_path and what is wrong with its source.
    func guestMounts(_ id: String, _ plan: ContainerPlan, _ ledger: Ledger) async throws -> [AgentMountSpec] {
        guard !plan.spec.mounts.isEmpty else { return [] }
        // All sources are checked before the first one is brought.
        var volumes: [ResolvedVolume] = []
        for (index, mount) in plan.spec.mounts.enumerated() {
            volumes.append(try await naming(mount) { try await volume(of: mount, plan.volumeImages[index]) })
        }
        var messages: [(mount: ContainerMount, message: AgentMountSpec)] = []
        for (index, mount) in plan.spec.mounts.enumerated() {
            let place = VolumePlace(sandbox: self, container: id, index: index, ledger: ledger)
            messages.append((mount, try await naming(mount) { try await volumes[index].provide(mount, place) }))
        }
        // A mount comes after those that it lies in; otherwise in the order of the request.
        return messages.enumerated().sorted { ($0.element.mount.depth, $0.offset) < ($1.element.mount.depth, $1.offset) }
            .map(\.element.message)
    }

    private func naming<Value>(_ mount: ContainerMount, _ body: () async throws -> Value) async throws -> Value {
        do {
            return try await body()
        } catch {
            throw SwiftletError.wrap(error, "config.mounts \(mount.containerPath)")
        }
    }

    private func volume(of mount: ContainerMount, _ image: [LayerImage]?) async throws -> ResolvedVolume {
        let runDirectory = handler.configuration.runDirectory
        // Reads the node's mount table, and looks at a path that may be on a filesystem that hangs.
        return try await OwnThread.run {
            let path = image == nil ? try HostPath(mount.hostPath) : nil
            if let path, path.overlaps(runDirectory) {
                throw SwiftletError(
                    .failedPrecondition,
                    "host_path \(mount.hostPath) holds or lies in \(runDirectory), where the pods' shares are: a share would hold all "
                        + "others, and itself; mount what is needed of it")
            }
            return try ResolvedVolume(MountRequest(mount: mount, image: image, path: path))
        }
    }
}

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
        var sources: [Int: MountSource] = [:]
        for (index, mount) in plan.spec.mounts.enumerated() {
            do {
                sources[index] = try await source(of: mount, plan.volumeImages[index])
            } catch {
                throw SwiftletError.wrap(error, "config.mounts \(mount.containerPath)")
            }
        }
        if sources.values.contains(where: \.isShared) {
            let share = try await share.ready()
            let document = ShareMountsDocument(share: share.directory, container: id)
            for (index, mount) in plan.spec.mounts.enumerated() {
                guard case .host(let path) = sources[index] else { continue }
                // Refused once the container's creation is being undone.
                try await ledger.note(.shareMounts, "\(share.directory)/\(id)", document)
                do {
                    sources[index] = .shared(try await add(path, mount, to: share, container: id, index: index))
                } catch {
                    throw SwiftletError.wrap(error, "config.mounts \(mount.containerPath)")
                }
            }
        }
        // A mount comes after those that it lies in; otherwise in the order of the request.
        return plan.spec.mounts.enumerated().sorted { ($0.element.depth, $0.offset) < ($1.element.depth, $1.offset) }.compactMap {
            index, mount in sources[index].map { $0.message(mount) }
        }
    }

    private func source(of mount: ContainerMount, _ image: [LayerImage]?) async throws -> MountSource {
        if let image { return .image(image) }
        let path = try await OwnThread.run { try HostPath(mount.hostPath) }
        guard !path.overlaps(handler.configuration.runDirectory) else {
            throw SwiftletError(
                .failedPrecondition,
                "host_path \(mount.hostPath) holds or lies in \(handler.configuration.runDirectory), where the pods' shares are: a share "
                    + "would hold all others, and itself; mount what is needed of it")
        }
        if let memory = path.memoryVolume { return .memory(memory) }
        guard mount.propagation == .none || path.receivesMounts else {
            throw SwiftletError(
                .failedPrecondition,
                "propagation HostToContainer: host_path \(mount.hostPath) lies on a mount that is neither shared nor slave; "
                    + "make it shared on the node (mount --make-rshared)")
        }
        return .host(path)
    }

    private func add(
        _ path: HostPath, _ mount: ContainerMount, to share: PodShare, container: String, index: Int
    ) async throws -> String {
        let options = PodShare.Options(
            readOnly: mount.readOnly,
            // The flags of a mount that arrives later are the node's: a guest could write there.
            receivesMounts: mount.propagation == .hostToContainer && !mount.readOnly, mappings: mount.mappings)
        return try await OwnThread.run { try share.add(path, container: container, index: index, options) }
    }
}

/// Where what is mounted comes from.
private enum MountSource {
    case host(HostPath)
    /// Relative to the pod's share.
    case shared(String)
    case memory(MemoryVolume)
    case image([LayerImage])

    var isShared: Bool {
        switch self {
        case .host, .shared: true
        case .memory, .image: false
        }
    }

    func message(_ mount: ContainerMount) -> AgentMountSpec {
        .with {
            $0.destination = mount.containerPath
            $0.options = mount.guestOptions
            switch self {
            case .host: break
            case .shared(let place):
                $0.type = "share"
                $0.source = place
            case .memory(let volume):
                $0.type = "memory"
                $0.subPath = volume.subPath
                $0.memory = .with {
                    $0.name = volume.name
                    $0.size = volume.size
                    $0.mode = volume.mode
                    $0.uid = mount.mappings?.inGuest(volume.uid, \.uids) ?? volume.uid
                    $0.gid = mount.mappings?.inGuest(volume.gid, \.gids) ?? volume.gid
                }
            case .image(let layers):
                $0.type = "image"
                $0.subPath = mount.imageSubPath
                $0.layers = layers.map { layer in
                    .with {
                        $0.serial = layer.serial
                        $0.filesystem = layer.filesystem
                    }
                }
            }
        }
    }
}

extension IDMappings {
    /// The id outside of the user namespace that an id of the volume appears as.
    fileprivate func inGuest(_ id: UInt32, _ kind: KeyPath<IDMappings, [IDMapping]>) -> UInt32? {
        guard let range = self[keyPath: kind].first(where: { id >= $0.containerID && id - $0.containerID < $0.length }) else { return nil }
        return range.hostID + (id - range.containerID)
    }
}

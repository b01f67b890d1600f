import AgentProtocol
import Runtime
import Volumes

/// An emptyDir in memory: the guest makes it of its own memory, for all containers of the pod.
struct PodMemoryVolume: GuestVolume {
    private let volume: MemoryVolume
    private let mappings: IDMappings?

    init?(_ request: MountRequest) throws {
        guard let volume = request.path?.memoryVolume else { return nil }
        self.volume = volume
        mappings = request.mount.mappings
    }

    func provide(_ place: VolumePlace) async throws -> AgentMountSpec {
        .with {
            $0.subPath = volume.subPath
            $0.memory = .with {
                $0.name = volume.name
                $0.size = volume.size
                $0.mode = volume.mode
                $0.uid = mappings?.inGuest(volume.uid, \.uids) ?? volume.uid
                $0.gid = mappings?.inGuest(volume.gid, \.gids) ?? volume.gid
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

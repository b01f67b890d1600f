import AgentProtocol
import Errors

/// One kind of volume, as kata's storage handlers: one file each, registered in ``PodVolumes`` by the type that mounts name it with.
///
/// There is one object per pod, which keeps what the kind has for all of the pod's containers. Calls come from several threads.
protocol VolumeKind: Sendable {
    /// What has to be plugged into the guest before ``bring(_:mounted:)``.
    ///
    /// - Throws: `.invalidArgument` naming what is wrong with the mount.
    func devices(for request: VolumeRequest) throws(SwiftletError) -> AwaitedDevices

    /// Brings the volume into the agent's own tree for one mount of one container.
    ///
    /// - Parameter mounted: takes each mount point that goes with the container, at once when it is made.
    /// - Returns: the path that the container's bind mount has as its source.
    func bring(_ request: VolumeRequest, mounted: (String) -> Void) throws(SwiftletError) -> String

    /// Writes what outlives the guest, before its power goes. Blocks.
    func flush()

    /// Gives back what is kept for the pod. For pods whose machine goes on. Idempotent.
    func release()
}

extension VolumeKind {
    /// Most volumes end with the guest.
    func flush() {}
}

/// One mount of one container, as a ``VolumeKind`` sees it.
struct VolumeRequest {
    var mount: AgentMountSpec
    /// Of the device that carries the pod's share.
    var shareTag: String
    /// For mount points of this mount alone; made when it is needed.
    var directory: String
    /// The container's, that the owners of an image's files are ids of; nil: the guest's own.
    var namespace: UserNamespace? = nil
    /// The block device of a layer's SCSI serial.
    var diskPath: (_ serial: String) throws(SwiftletError) -> String
}

/// The pod's volumes of all kinds; one object for all containers.
public final class PodVolumes: Sendable {
    private let kinds: [AgentVolumeType: any VolumeKind]

    /// - Parameter directory: where volumes that live as long as the pod are mounted; made when it is needed.
    public init(directory: String) {
        kinds = Dictionary(uniqueKeysWithValues: AgentVolumeType.allCases.map { ($0, Self.kind($0, directory)) })
    }

    private static func kind(_ type: AgentVolumeType, _ directory: String) -> any VolumeKind {
        switch type {
        case .image: ImageVolumes()
        case .memory: MemoryVolumes(directory: "\(directory)/memory")
        case .share: ShareVolumes(path: "\(directory)/share")
        }
    }

    /// Nil for a mount that is no volume: "bind", or a filesystem.
    func kind(of mount: AgentMountSpec) -> (any VolumeKind)? { AgentVolumeType(rawValue: mount.type).flatMap { kinds[$0] } }

    /// As ``VolumeKind/flush()``, for all kinds.
    func flush() {
        for kind in kinds.values { kind.flush() }
    }

    /// As ``VolumeKind/release()``, for all kinds.
    public func release() {
        for kind in kinds.values { kind.release() }
    }
}

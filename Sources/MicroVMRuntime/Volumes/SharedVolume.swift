import AgentProtocol
import Concurrency
import Errors
import PodMachine
import Runtime
import Volumes

/// A directory or file of the node: a mount of its own in the pod's share.
struct SharedVolume: GuestVolume {
    private let path: HostPath
    private let options: PodShare.Options
    /// The node's kernel alone keeps a guest from writing, which may write to some of the mounts below.
    private let leavesReadOnlyToNode: Bool

    init?(_ request: MountRequest) throws {
        guard let path = request.path else { return nil }
        let mount = request.mount
        guard mount.propagation == .none || path.receivesMounts else {
            throw SwiftletError(
                .failedPrecondition,
                "propagation HostToContainer: host_path \(mount.hostPath) lies on a mount that is neither shared nor slave; "
                    + "make it shared on the node (mount --make-rshared)")
        }
        self.path = path
        options = PodShare.Options(
            readOnly: mount.readOnly, recursiveReadOnly: mount.recursiveReadOnly, receivesMounts: mount.propagation == .hostToContainer,
            mappings: mount.mappings)
        // In the guest, what is found mounted below takes over the flags of the mount above it.
        leavesReadOnlyToNode = mount.readOnly && !mount.recursiveReadOnly && (options.receivesMounts || path.holdsMounts)
    }

    func provide(_ place: VolumePlace) async throws -> AgentMountSpec {
        let (share, namespace) = try await place.sandbox.share.ready()
        let document = ShareMountsDocument(share: share.directory, container: place.container)
        // Refused once the container's creation is being undone.
        try await place.ledger.note(.shareMounts, "\(share.directory)/\(place.container)", document)
        let source = try await OwnThread.run { [path, options] in
            try share.add(path, container: place.container, index: place.index, options, in: namespace)
        }
        return .with {
            $0.source = source
            if leavesReadOnlyToNode { $0.options = ["rw"] }
        }
    }
}

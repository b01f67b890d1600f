import AgentProtocol
import Errors
import Runtime
import Volumes

/// The source of one mount of one container: one kind a file, and the guest's half of it in `agent/GuestAgent/Volumes`.
protocol GuestVolume: Sendable {
    /// Nil when the mount is of another kind. Changes nothing.
    ///
    /// - Throws: errors naming what is wrong with the mount's source.
    init?(_ request: MountRequest) throws

    /// Makes what the volume needs on the node and plugs it into the machine. What it makes on the node is written to the
    /// container's ledger first.
    ///
    /// - Returns: how the guest brings the volume: the fields of its type, and options that replace those of the mount.
    func provide(_ place: VolumePlace) async throws -> AgentMountSpec
}

/// A mount that a client asked for, its source looked up.
struct MountRequest: Sendable {
    let mount: ContainerMount
    /// The layers of the image that is mounted, the lowest first.
    let image: [LayerImage]?
    /// The node's directory or file that is mounted; nil for an image.
    let path: HostPath?
}

/// Whose volume it is.
struct VolumePlace: Sendable {
    let sandbox: MicroVMSandbox
    let container: String
    /// The mount's, in the request.
    let index: Int
    /// The container's.
    let ledger: Ledger
}

/// The volume of a mount, of the kind that takes it.
struct ResolvedVolume: Sendable {
    let type: AgentVolumeType
    let volume: any GuestVolume

    init(_ request: MountRequest) throws {
        // In the enum's order: a path of the node that is no volume in memory is shared.
        for type in AgentVolumeType.allCases {
            if let volume = try Self.kind(type).init(request) {
                self.type = type
                self.volume = volume
                return
            }
        }
        throw SwiftletError(.invalidArgument, "neither host_path nor image names a source")
    }

    private static func kind(_ type: AgentVolumeType) -> any GuestVolume.Type {
        switch type {
        case .image: ImageVolume.self
        case .memory: PodMemoryVolume.self
        case .share: SharedVolume.self
        }
    }

    /// As ``GuestVolume/provide(_:)``, with the fields that all types have.
    func provide(_ mount: ContainerMount, _ place: VolumePlace) async throws -> AgentMountSpec {
        var message = try await volume.provide(place)
        message.type = type.rawValue
        message.destination = mount.containerPath
        message.options = mount.guestOptions + message.options
        return message
    }
}

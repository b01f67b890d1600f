import AgentProtocol
import Runtime

/// The files of an image: its layers are attached as disks together with the container's own.
struct ImageVolume: GuestVolume {
    private let layers: [LayerImage]
    private let subPath: String

    init?(_ request: MountRequest) throws {
        guard let layers = request.image else { return nil }
        self.layers = layers
        subPath = request.mount.imageSubPath
    }

    func provide(_ place: VolumePlace) async throws -> AgentMountSpec {
        .with {
            $0.subPath = subPath
            $0.layers = layers.map { layer in
                .with {
                    $0.serial = layer.serial
                    $0.filesystem = layer.filesystem
                }
            }
        }
    }
}

/// A layer as a VM gets it.
public struct LayerImage: Sendable, Codable, Equatable {
    /// A read-only, world-readable disk image, a multiple of 4096 bytes.
    public var path: String
    /// 20 digits [0-9a-f] of the layer's diff id: the serial of the virtio-scsi disk.
    public var serial: String
    /// For mount(2): `erofs`.
    public var filesystem: String
    public var sizeBytes: UInt64

    public init(path: String, serial: String, filesystem: String, sizeBytes: UInt64) {
        self.path = path
        self.serial = serial
        self.filesystem = filesystem
        self.sizeBytes = sizeBytes
    }
}

/// An image in the store.
public struct Image: Sendable, Equatable {
    /// `sha256:<digest of the configuration>`; what CRI calls image_ref.
    public var id: String
    /// `host/path:tag`.
    public var repoTags: [String]
    /// `host/path@sha256:…`, the digest being that of the manifest or index.
    public var repoDigests: [String]
    /// Bytes on disk; layers shared with other images count in each.
    public var size: UInt64
    public var user: ImageUser
    public var config: ImageConfig
    public var pinned: Bool

    public init(
        id: String, repoTags: [String], repoDigests: [String], size: UInt64, user: ImageUser, config: ImageConfig, pinned: Bool
    ) {
        self.id = id
        self.repoTags = repoTags
        self.repoDigests = repoDigests
        self.size = size
        self.user = user
        self.config = config
        self.pinned = pinned
    }
}

/// The user an image's processes run as, without its group: a number or a name, as CRI wants it.
public struct ImageUser: Sendable, Equatable {
    public var uid: Int64?
    public var username: String

    /// - Parameter user: `USER` of the image: `name`, `uid`, `name:group` or `uid:gid`; empty is root, uid 0.
    public init(_ user: String) {
        let name = user.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).first.map(String.init) ?? ""
        uid = name.isEmpty ? 0 : Int64(name)
        username = uid == nil ? name : ""
    }
}

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

/// All that a container's root is stacked from.
public struct ImageRootfs: Sendable {
    public var image: Image
    /// Lowest first; at least one; no layer twice.
    public var layers: [LayerImage]

    public init(image: Image, layers: [LayerImage]) {
        self.image = image
        self.layers = layers
    }
}

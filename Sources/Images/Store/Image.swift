import Runtime
import State

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

extension Image {
    /// What is stored of an image beside its record.
    init(_ stored: StoredImage, size: Int64, config: ImageConfig, pinned: Bool) {
        self.init(
            id: stored.id, repoTags: stored.names.filter { !$0.isDigest }.map(\.name),
            repoDigests: stored.names.filter(\.isDigest).map(\.name), size: UInt64(size), user: ImageUser(config.user), config: config,
            pinned: pinned)
    }
}

/// The user an image's processes run as, without its group: a number or a name, as CRI wants it.
public struct ImageUser: Sendable, Equatable {
    public var uid: Int64?
    public var username: String

    /// - Parameter user: `USER` of the image: `name`, `uid`, `name:group` or `uid:gid`; empty is root, uid 0.
    public init(_ user: String) {
        if case .id(let id)? = try? UserReference(parsing: user, "USER").user {
            (uid, username) = (Int64(id), "")
        } else {
            // Also a number out of range, which no container is made with.
            uid = nil
            username = user.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).first.map(String.init) ?? ""
        }
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

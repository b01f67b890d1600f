import Runtime
import State

/// An image in the store.
public struct Image: Sendable, Equatable {
    /// `sha256:<digest of the configuration>`; what CRI calls Image.id, and PullImage image_ref.
    public var id: String
    /// `host/path:tag`.
    public var repoTags: [String]
    /// `host/path@sha256:…`, the digest being that of the manifest or index.
    public var repoDigests: [String]
    /// Bytes on disk; layers shared with other images count in each.
    public var size: UInt64
    public var user: ImageUser
    public var pinned: Bool

    public init(id: String, repoTags: [String], repoDigests: [String], size: UInt64, user: ImageUser, pinned: Bool) {
        self.id = id
        self.repoTags = repoTags
        self.repoDigests = repoDigests
        self.size = size
        self.user = user
        self.pinned = pinned
    }
}

extension Image {
    /// Its digest in the repository of `reference`, else in any.
    public func digest(named reference: String) -> String? {
        guard let name = try? ImageReference(reference).name else { return repoDigests.first }
        return repoDigests.first { $0.hasPrefix("\(name)@") } ?? repoDigests.first
    }

    /// - Parameter head: nil for an image whose record cannot be read.
    init(id: String, names: [ImageNameRecord], head: ImageHead?, pinned: Set<String>) {
        self.init(
            id: id, repoTags: names.filter { !$0.isDigest }.map(\.name), repoDigests: names.filter(\.isDigest).map(\.name),
            size: UInt64(head?.size ?? 0), user: ImageUser(head?.user ?? ""),
            pinned: head?.pinned == true || names.contains { pinned.contains($0.name) })
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

/// What a container of the image is made of.
public struct ImageRootfs: Sendable {
    public var image: Image
    public var config: ImageConfig
    public var content: ImageContent
    /// None for a disk.
    public var layers: [LayerImage] { content.layers }

    public init(image: Image, config: ImageConfig, content: ImageContent) {
        self.image = image
        self.config = config
        self.content = content
    }
}

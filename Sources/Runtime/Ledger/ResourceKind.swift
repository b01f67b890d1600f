/// A kind of thing that a pod owns outside the daemon's memory. Each hand names its own kinds and brings their releasers; a kind that
/// this version does not know stays listed.
public struct ResourceKind: RawRepresentable, Codable, Sendable, Hashable, CustomStringConvertible {
    public let rawValue: String

    public init(rawValue: String) {
        self.rawValue = rawValue
    }

    public init(_ name: String) {
        rawValue = name
    }

    public var description: String { rawValue }
}

extension ResourceKind {
    /// The hold on the layers of a container's images.
    public static let imageLease = ResourceKind("imageLease")
    /// The layers of a container's images as disks of its machine. The hold on the images outlasts them.
    public static let layerDisks = ResourceKind("layerDisks")
    /// A virtual machine, and QEMU.
    public static let machine = ResourceKind("machine")
    /// The user that the pod's processes on the node run as. It stays the pod's until all else is released.
    public static let user = ResourceKind("user")
    /// Whatever runs on the node as the pod's user, named by the user's id. Nothing that the user can write to is removed before it has
    /// ended: root would walk through directories that somebody changes meanwhile.
    public static let userProcesses = ResourceKind("userProcesses")
    /// A directory of the pod's own.
    public static let directory = ResourceKind("directory")
    public static let networkNamespace = ResourceKind("networkNamespace")
    /// What the CNI plugins made for the pod.
    public static let networkAttachment = ResourceKind("networkAttachment")
}

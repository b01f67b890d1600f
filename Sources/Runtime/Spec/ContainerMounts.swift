/// One mount that a client asked for, after validation.
public struct ContainerMount: Codable, Sendable, Equatable {
    public enum Propagation: String, Codable, Sendable {
        case none
        /// Mounts that the node makes below the source later are seen in the container.
        case hostToContainer
        /// As well, and those that the container makes are seen on the node.
        case bidirectional
    }

    /// Where it appears: absolute, in the container.
    public var containerPath: String
    /// A directory or file of the node; empty with `image`.
    public var hostPath = ""
    /// Read-only itself; what is mounted below is as it is on the node.
    public var readOnly = false
    /// Read-only with all that is mounted below.
    public var recursiveReadOnly = false
    public var propagation = Propagation.none
    /// noexec, nodev, nosuid, ….
    public var options: [String] = []
    public var mappings: IDMappings?
    /// As the client said it; no process of the node is confined by it.
    public var selinuxRelabel = false
    /// An image whose files are mounted, as the client named it; empty: `hostPath` counts.
    public var image = ""
    /// `repository@digest` of that image when the container was made, else its id.
    public var imageReference: String?
    /// The part of the image, relative to its root; empty: all.
    public var imageSubPath = ""

    public init(containerPath: String) {
        self.containerPath = containerPath
    }

    /// As fstab writes what the guest is to do.
    package var guestOptions: [String] {
        ["rbind", recursiveReadOnly || !image.isEmpty ? "rro" : readOnly ? "ro" : "rw", "nodev", "rprivate"] + options
    }

    /// How many directories its destination lies below: a mount is made after those that it lies in.
    package var depth: Int { containerPath.split(separator: "/").filter { $0 != "." }.count }
}

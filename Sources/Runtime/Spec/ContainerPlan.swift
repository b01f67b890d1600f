/// A container as a handler has to make it: the client's spec and the image's configuration put together.
public struct ContainerPlan: Sendable {
    public var spec: ContainerSpec
    /// What its root is stacked from, or the disk that its machine boots.
    public var root: ImageContent
    /// The program and its arguments.
    public var arguments: [String]
    /// "KEY=value", later entries win.
    public var environment: [RawText]
    public var workingDirectory: String
    public var user: UserReference
    public var stopSignal: Int32
    /// Nil: no filter.
    public var seccomp: SeccompPlan?
    /// Directories that the image declares as volumes: absolute, without "." and "..".
    public var volumes: [String] = []
    /// The images of the mounts that have one, by the mount's index in the spec.
    public var volumeImages: [Int: [LayerImage]] = [:]

    public init(
        spec: ContainerSpec, root: ImageContent, arguments: [String], environment: [RawText], workingDirectory: String,
        user: UserReference,
        stopSignal: Int32
    ) {
        self.spec = spec
        self.root = root
        self.arguments = arguments
        self.environment = environment
        self.workingDirectory = workingDirectory
        self.user = user
        self.stopSignal = stopSignal
    }
}

/// Which system calls a container may make.
public enum SeccompPlan: Sendable {
    /// The handler's default profile.
    case runtimeDefault
    /// - Parameter path: where the profile is on the node, for messages.
    case profile(SeccompDocument, path: String)
}

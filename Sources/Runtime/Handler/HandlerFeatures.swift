/// What pods may ask of a runtime handler, as Status tells the kubelet.
public struct HandlerFeatures: Sendable, Equatable {
    /// Mount.recursive_read_only is honoured.
    public var recursiveReadOnlyMounts: Bool
    /// Pods may have a user namespace of their own.
    public var userNamespaces: Bool

    public init(recursiveReadOnlyMounts: Bool = false, userNamespaces: Bool = false) {
        self.recursiveReadOnlyMounts = recursiveReadOnlyMounts
        self.userNamespaces = userNamespaces
    }
}

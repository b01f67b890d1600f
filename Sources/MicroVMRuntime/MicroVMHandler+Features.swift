import Runtime

extension MicroVMHandler {
    /// Whether the guest mounts read-only all the way down.
    static let hasRecursiveReadOnlyMounts = true
    /// Whether the guest makes user namespaces.
    static let hasUserNamespaces = true

    public var features: HandlerFeatures {
        HandlerFeatures(recursiveReadOnlyMounts: Self.hasRecursiveReadOnlyMounts, userNamespaces: Self.hasUserNamespaces)
    }
}

/// A container as Kubernetes names it.
public struct ContainerNames: Codable, Sendable, Hashable {
    public var namespace: String
    public var pod: String
    public var podUID: String
    public var container: String
    /// How often the container was made anew.
    public var attempt: UInt32

    public init(namespace: String, pod: String, podUID: String, container: String, attempt: UInt32) {
        self.namespace = namespace
        self.pod = pod
        self.podUID = podUID
        self.container = container
        self.attempt = attempt
    }
}

/// Gets the lines of all logs beside their files.
public protocol LogCollector: Sendable {
    /// - Returns: what takes the lines of the container's log, as long as it is held.
    func collect(_ container: String, _ names: ContainerNames?) -> any CollectedLog
}

/// The lines of one log.
public protocol CollectedLog: Sendable {
    /// Takes whole lines of the CRI log format, as they are in the file now. It waits for nobody.
    func take(_ lines: [UInt8])
}

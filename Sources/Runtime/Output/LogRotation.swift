/// When a container's log goes on in a new file, and how many files it has.
public struct LogRotation: Codable, Sendable, Equatable {
    /// Bytes of a file with which it is full.
    public var maxSize: UInt64
    /// The present file among them; at least 2.
    public var maxFiles: Int

    public init(maxSize: UInt64, maxFiles: Int) {
        self.maxSize = maxSize
        self.maxFiles = maxFiles
    }
}

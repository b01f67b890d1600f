/// Which of a process's two outputs.
public enum StandardStream: String, Sendable, CaseIterable {
    case stdout
    case stderr
}

/// Where a container's output goes.
public protocol OutputSink: Sendable {
    /// Bytes of each source already taken.
    func received() async -> OutputOffsets
    /// Takes bytes.
    ///
    /// - Returns: bytes of each source that are safe for good.
    func take(_ bytes: [UInt8], from source: StandardStream) async throws -> OutputOffsets
    /// Writes what could not be written when it was taken.
    func flush() async throws -> OutputOffsets
    /// Writes what waits for the end of its line, as a piece of a line that goes on.
    func writePart(of source: StandardStream) async throws -> OutputOffsets
    /// Counts bytes that were lost before they could be taken.
    func lose(_ count: UInt64, of source: StandardStream) async throws -> OutputOffsets
    /// The source has ended.
    func finish(_ source: StandardStream) async throws -> OutputOffsets
}

public struct OutputOffsets: Sendable, Equatable {
    public var stdout: UInt64
    public var stderr: UInt64

    public init(stdout: UInt64 = 0, stderr: UInt64 = 0) {
        self.stdout = stdout
        self.stderr = stderr
    }
}

import Errors
import Glibc
import Runtime

/// The log of another process, which makes a new file when it is told to.
public struct WrittenLog: Sendable, Equatable {
    public enum State: Sendable {
        case hasRoom
        case isFull
        /// Its path names no file: somebody has renamed it.
        case isRenamed
    }

    private let location: LogLocation

    /// - Parameters:
    ///   - directory: absolute; the kubelet's.
    ///   - path: relative.
    public init(directory: String, path: String) { location = LogLocation(directory: directory, path: path) }

    /// Blocks.
    ///
    /// - Throws: `.failedPrecondition` without its directory.
    public func state(_ rotation: LogRotation) throws -> State {
        let parent = try LogParent(location)
        guard let size = parent.size(of: parent.name) else { return .isRenamed }
        return size >= rotation.maxSize ? .isFull : .hasRoom
    }

    /// Gives the file the name of an earlier one, under which it is written until its writer goes on in a new one. Blocks.
    ///
    /// - Returns: false where somebody else has renamed it just now.
    public func rename() throws -> Bool {
        let parent = try LogParent(location)
        let stamp = RotatedLogName.stamp(after: parent.rotated(), at: RotatedLogName.localTime())
        // Reserved: rename(2) replaces this and nothing else.
        let name = "\(parent.name).\(stamp)"
        close(try parent.create(name))
        do {
            try parent.rename(parent.name, to: name)
            return true
        } catch {
            parent.remove(name)
            if parent.inode(of: parent.name) == nil { return false }
            throw error
        }
    }

    /// Removes the oldest of its files, the kubelet's among them. Blocks.
    public func removeOldest(_ rotation: LogRotation) throws {
        let parent = try LogParent(location)
        let names = parent.rotated().map { "\(parent.name).\($0.text)" }
        for name in names.dropLast(max(rotation.maxFiles - 1, 1)) { parent.remove(name) }
    }
}

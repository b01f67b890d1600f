import Errors
import Glibc
import Runtime

/// Rotation by size. Between any two of its steps the process may end: what has become of the file that the position was noted in is
/// found by its inode (``LogFile/catchUp()``), and nothing is written until the position names the new one.
///
/// 1. A name for the full file is reserved by an empty file.
/// 2. The full file is renamed to it, which replaces the empty one and nothing else.
/// 3. A new file is made.
/// 4. The position is noted in it.
/// 5. The oldest files are removed.
extension LogFile {
    /// How long a rotation that failed, or that the kubelet has begun, is left alone.
    static let rotationPause = Duration.seconds(1)

    /// Goes on in a new file where the present one is full and every line is whole. A line that makes the file twice as large as it may be
    /// goes on in the next one: its source may never end it.
    ///
    /// - Throws: why it could not, once until it can again. The present file stays in use.
    mutating func rotateIfFull() throws {
        guard let rotation, descriptor >= 0, buffer.isEmpty, position.logSize >= rotation.maxSize else { return }
        guard isBetweenLines || position.logSize / 2 >= rotation.maxSize else { return }
        if let pauseEnd, .now < pauseEnd { return }
        pauseEnd = .now + Self.rotationPause
        do {
            guard try rotate(rotation) else { return }
        } catch {
            defer { rotationFails = true }
            if !rotationFails { throw error }
            return
        }
        (pauseEnd, rotationFails) = (nil, false)
    }

    /// - Returns: false where the log's path does not name the present file: the kubelet has renamed it, and will ask for the log to be
    ///   reopened. It would rename it back where that fails, in place of a file that was made meanwhile.
    private mutating func rotate(_ rotation: LogRotation) throws -> Bool {
        guard let location else { return false }
        let parent = try LogParent(location)
        guard parent.inode(of: parent.name) == position.inode else { return try resume(parent) }
        let renamed = try reserveName(parent)
        do {
            try parent.rename(parent.name, to: renamed)
        } catch {
            parent.remove(renamed)
            if parent.inode(of: parent.name) == nil { return false }
            throw error
        }
        do {
            let next = try parent.create(parent.name)
            do {
                try goOn(in: next)
            } catch {
                parent.remove(parent.name)
                throw error
            }
        } catch {
            if parent.inode(of: parent.name) == nil { try? parent.rename(renamed, to: parent.name) }
            throw error
        }
        removeOldest(parent, rotation)
        return true
    }

    /// Makes the new file where the present one has its rotated name already: a rename back has failed.
    ///
    /// - Returns: false where it is another file's name that is missing, or somebody else's file that has it.
    private mutating func resume(_ parent: borrowing LogParent) throws -> Bool {
        guard parent.inode(of: parent.name) == nil else { return false }
        guard parent.rotated().contains(where: { $0.isOwn && parent.inode(of: "\(parent.name).\($0.text)") == position.inode })
        else { return false }
        try goOn(in: try parent.create(parent.name))
        return true
    }

    func reserveName(_ parent: borrowing LogParent) throws -> String {
        let stamp = RotatedLogName.stamp(after: parent.rotated(), at: RotatedLogName.localTime())
        let name = "\(parent.name).\(stamp)"
        Glibc.close(try parent.create(name))
        return name
    }

    /// - Parameter next: an empty file. It is closed where the position cannot be noted in it.
    mutating func goOn(in next: Int32) throws {
        var status = stat()
        let former = position
        if fstat(next, &status) == 0 {
            (position.inode, position.logSize) = (UInt64(status.st_ino), 0)
            if position.write(to: positionDescriptor) {
                Glibc.close(descriptor)
                descriptor = next
                return
            }
        }
        let error = SwiftletError.system("note the position of the container log \(location?.description ?? "")")
        position = former
        position.write(to: positionDescriptor)
        Glibc.close(next)
        throw error
    }

    /// An empty file is a name that was reserved by a process that ended; unless it is the present file, which the kubelet may have renamed
    /// just now.
    func removeOldest(_ parent: borrowing LogParent, _ rotation: LogRotation) {
        var kept: [String] = []
        for rotated in parent.rotated() {
            let name = "\(parent.name).\(rotated.text)"
            let isLeft = rotated.isOwn && parent.isEmpty(name) && parent.inode(of: name) != position.inode
            if isLeft { parent.remove(name) } else { kept.append(name) }
        }
        for name in kept.dropLast(max(rotation.maxFiles - 1, 1)) { parent.remove(name) }
    }
}

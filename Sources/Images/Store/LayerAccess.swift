import Errors
import Glibc
import Linux

/// Who reads layers: they are of private images, and any local user may guess their names.
struct LayerAccess: Sendable {
    /// The machines'; nil: root alone.
    let group: gid_t?

    /// Lets the group pass through a directory, which nobody but root lists. The directory may be a link to where there is room.
    func open(directory path: String) throws { try give(path, S_IFDIR, mode: group == nil ? 0o700 : 0o710) }

    /// Lets the group read a file. Idempotent.
    func open(file path: String) throws { try give(path, S_IFREG, mode: group == nil ? 0o400 : 0o440) }

    private func give(_ path: String, _ type: mode_t, mode: mode_t) throws {
        let link = type == S_IFDIR ? 0 : O_NOFOLLOW
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | link)
        guard descriptor >= 0 else {
            if errno == ELOOP { return }
            throw SwiftletError.system("open \(path)")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw SwiftletError.system("look at \(path)") }
        // Something else has nothing to say here, and is not a layer.
        guard status.st_mode & S_IFMT == type else { return }
        // The group first: the one before is not let in.
        if let group, status.st_gid != group, fchown(descriptor, uid_t.max, group) != 0 {
            throw SwiftletError.system("give group \(group) \(path)")
        }
        if status.st_mode & 0o7777 != mode, fchmod(descriptor, mode) != 0 { throw SwiftletError.system("set the mode of \(path)") }
    }
}

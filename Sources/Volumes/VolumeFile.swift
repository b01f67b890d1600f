import CLinux
import Errors
import Glibc
import Linux

/// A file at the top of a volume that a machine's user is lent: bound to a path of the daemon's, since nobody else can pass through the
/// volume's own, and given to that user until it is given back.
///
/// A pod that mounts the volume writes in it as it likes: the file is opened through no link, and is the only name of what it is.
public struct VolumeFile: Sendable {
    /// Whose a file is when nobody has borrowed it.
    public struct Ownership: Sendable, Codable, Equatable {
        public var uid: UInt32
        public var gid: UInt32
        public var mode: UInt32

        public init(uid: UInt32, gid: UInt32, mode: UInt32) {
            self.uid = uid
            self.gid = gid
            self.mode = mode
        }
    }

    private let volume: HostPath
    public let name: String
    /// For people.
    public var path: String { "\(volume.path)/\(name)" }

    /// - Parameter name: one component.
    /// - Throws: `failedPrecondition` for a volume that is no directory.
    public init(_ name: String, in volume: HostPath) throws {
        guard volume.isDirectory else { throw SwiftletError(.failedPrecondition, "host_path \(volume.path) is not a directory") }
        self.volume = volume
        self.name = name
    }

    /// Another one of the same volume.
    public func beside(_ name: String) -> VolumeFile { VolumeFile(volume: volume, name: name) }

    private init(volume: HostPath, name: String) {
        self.volume = volume
        self.name = name
    }

    /// Tells the volume's directory from all others of the node.
    public var volumeID: String { "\(volume.status.st_dev) \(volume.status.st_ino)" }

    // MARK: Look

    /// Whose the file is; nil without one. Blocks.
    ///
    /// - Throws: `failedPrecondition` for anything but a regular file with this name alone.
    public func ownership() throws -> Ownership? {
        guard let file = try open(O_RDONLY) else { return nil }
        defer { close(file) }
        let status = try Self.status(file, path)
        return Ownership(uid: status.st_uid, gid: status.st_gid, mode: status.st_mode & 0o7777)
    }

    /// Bytes of the file; nil without one. Blocks.
    ///
    /// - Throws: as ``ownership()``.
    public func size() throws -> Int? {
        guard let file = try open(O_RDONLY) else { return nil }
        defer { close(file) }
        return Int(try Self.status(file, path).st_size)
    }

    /// The volume's directory on the node.
    public var volumePath: String { volume.path }

    /// What a file that is made in the volume is to be: the directory's, as others that use the volume expect.
    public var expectedOwnership: Ownership {
        Ownership(uid: volume.status.st_uid, gid: volume.status.st_gid, mode: 0o660)
    }

    private func open(_ access: Int32) throws -> Int32? {
        let file = clinux_open_beneath(volume.descriptor, name, access | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0)
        guard file >= 0 else {
            switch errno {
            case ENOENT: return nil
            case ELOOP, EXDEV: throw SwiftletError(.failedPrecondition, "\(path) is a symbolic link")
            case EISDIR, ENXIO: throw SwiftletError(.failedPrecondition, "\(path) is not a regular file")
            default: throw SwiftletError.system("open \(path)")
            }
        }
        do {
            let status = try Self.status(file, path)
            guard status.st_mode & S_IFMT == S_IFREG else { throw SwiftletError(.failedPrecondition, "\(path) is not a regular file") }
            guard status.st_nlink == 1 else { throw SwiftletError(.failedPrecondition, "\(path) is \(status.st_nlink) names of one file") }
        } catch {
            close(file)
            throw error
        }
        return file
    }

    private static func status(_ file: Int32, _ path: String) throws -> stat {
        var status = stat()
        guard fstat(file, &status) == 0 else { throw SwiftletError.system("look at \(path)") }
        return status
    }

    // MARK: Change

    /// Makes an empty file in place of one with this name. Blocks.
    public func make() throws {
        close(try openAnew())
    }

    /// An empty file in place of one with this name.
    private func openAnew() throws -> Int32 {
        try remove()
        let file = clinux_open_beneath(volume.descriptor, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard file >= 0 else { throw SwiftletError.system("create \(path)") }
        return file
    }

    /// Makes the file with its content, which is there whole or not at all. Blocks.
    ///
    /// - Parameter partial: another name in the volume, for what is not whole yet.
    public func create(_ bytes: [UInt8], _ partial: VolumeFile, _ owner: Ownership) throws {
        let file = try partial.openAnew()
        defer { close(file) }
        do {
            guard Glibc.write(file, bytes, bytes.count) == bytes.count, fsync(file) == 0 else {
                throw SwiftletError.system("write \(partial.path)")
            }
            guard fchown(file, owner.uid, owner.gid) == 0, fchmod(file, mode_t(owner.mode)) == 0 else {
                throw SwiftletError.system("give \(partial.path) to the volume's owner")
            }
            try partial.replace(self)
        } catch {
            try? partial.remove()
            throw error
        }
    }

    /// Idempotent. Blocks.
    public func remove() throws {
        // Through /proc, where the directory is what was opened whatever its path has become.
        guard unlink("\(directory)/\(name)") == 0 || errno == ENOENT else { throw SwiftletError.system("remove \(path)") }
    }

    /// Puts the file in the place of another of the volume's. Blocks.
    public func replace(_ other: VolumeFile) throws {
        guard rename("\(directory)/\(name)", "\(other.directory)/\(other.name)") == 0 else {
            throw SwiftletError.system("rename \(path) to \(other.name)")
        }
        let parent = Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard parent >= 0 else { throw SwiftletError.system("open \(volume.path)") }
        defer { close(parent) }
        guard fsync(parent) == 0 else { throw SwiftletError.system("flush \(volume.path)") }
    }

    private var directory: String { "/proc/self/fd/\(volume.descriptor)" }

    /// Bytes of the file after it was given at least as many; never fewer. Blocks.
    public func grow(to bytes: UInt64) throws {
        guard let file = try open(O_RDWR) else { throw SwiftletError(.notFound, "\(path) is not there") }
        defer { close(file) }
        guard try Self.status(file, path).st_size < off_t(clamping: bytes) else { return }
        guard ftruncate(file, off_t(clamping: bytes)) == 0 else { throw SwiftletError.system("grow \(path)") }
    }

    // MARK: Lend

    /// Binds the file to a path, as the user's alone. Blocks.
    ///
    /// - Parameter place: nothing, or what an earlier attempt has left there.
    public func lend(at place: String, to uid: UInt32, _ gid: UInt32) throws {
        guard let file = try open(O_RDWR) else { throw SwiftletError(.notFound, "\(path) is not there") }
        defer { close(file) }
        try Self.detach(place)
        let target = Glibc.open(place, O_CREAT | O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard target >= 0 else { throw SwiftletError.system("create \(place)") }
        close(target)
        let mount = clinux_clone_tree(file, 0)
        guard mount >= 0 else { throw SwiftletError.system("clone the mount of \(path)") }
        defer { close(mount) }
        let attributes = UInt64(CLINUX_MOUNT_ATTR_NOSUID | CLINUX_MOUNT_ATTR_NODEV | CLINUX_MOUNT_ATTR_NOEXEC)
        guard clinux_set_mount(mount, 0, attributes, UInt64(CLINUX_MS_PRIVATE), -1) == 0 else {
            throw SwiftletError.system("set the options of a mount of \(path)")
        }
        guard fchown(file, uid, gid) == 0, fchmod(file, 0o600) == 0 else {
            throw SwiftletError.system("give \(path) to its machine's user")
        }
        guard clinux_attach_tree(mount, place) == 0 else { throw SwiftletError.system("mount \(path)") }
    }

    /// Takes the place away, and gives the file there back unless it is somebody else's by now. Idempotent. Blocks.
    ///
    /// - Parameters:
    ///   - user: whom it was lent to; nil, as without an owner: the file stays whose it is.
    public static func giveBack(_ place: String, from user: UInt32?, to owner: Ownership?) throws {
        let file = Glibc.open(place, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        if file >= 0 {
            defer { close(file) }
            if let user, let owner, try status(file, place).st_uid == user {
                guard fchown(file, owner.uid, owner.gid) == 0, fchmod(file, owner.mode) == 0 else {
                    throw SwiftletError.system("give back the file at \(place)")
                }
            }
        } else if errno == ENOENT {
            return
        }
        try detach(place)
        guard unlink(place) == 0 || errno == ENOENT else { throw SwiftletError.system("remove \(place)") }
    }

    private static func detach(_ place: String) throws {
        while clinux_detach_mount(place) == 0 {}
        // EINVAL: no mount is there (umount(2)).
        guard errno == EINVAL || errno == ENOENT else { throw SwiftletError.system("unmount \(place)") }
    }
}

import CLinux
import Errors
import Glibc
import Linux
import Runtime

/// The directory that a pod's guest sees by virtiofs: each mount of each container is a bind mount in it.
///
/// Below `directory`:
/// - `tree/CONTAINER/N`: an empty directory or file for each mount; on it nothing is ever mounted by this path, so that it
///   can be removed at any time without reaching what a volume holds;
/// - `share`: `tree` again, read-only, which virtiofsd serves. Mounts are made in its mount namespace alone (``ShareNamespace``), and end
///   with their places: the removal of a directory ends the mounts that other namespaces have on it.
public struct PodShare: Sendable {
    public let directory: String

    public init(directory: String) { self.directory = directory }

    /// What virtiofsd serves.
    public var root: String { "\(directory)/share" }
    private var tree: String { "\(directory)/tree" }

    /// How one mount is made.
    public struct Options: Sendable, Equatable {
        public var readOnly: Bool
        /// What is mounted below it is read-only as well.
        public var recursiveReadOnly: Bool
        /// Mounts that the node makes below the source later appear as well.
        public var receivesMounts: Bool
        public var mappings: IDMappings?

        public init(readOnly: Bool, recursiveReadOnly: Bool = false, receivesMounts: Bool, mappings: IDMappings? = nil) {
            self.readOnly = readOnly
            self.recursiveReadOnly = recursiveReadOnly
            self.receivesMounts = receivesMounts
            self.mappings = mappings
        }
    }

    // MARK: The share

    /// Makes the directories and the share's own mount. Idempotent. Blocks.
    public func create() throws {
        for path in [directory, tree, root] {
            guard mkdir(path, path == directory ? 0o700 : 0o755) == 0 || errno == EEXIST else {
                throw SwiftletError.system("make directory \(path)")
            }
        }
        guard try !isMounted else { return }
        let source = open(tree, Int32(CLINUX_O_PATH) | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard source >= 0 else { throw SwiftletError.system("open \(tree)") }
        defer { close(source) }
        let mount = clinux_clone_tree(source, 0)
        guard mount >= 0 else { throw SwiftletError.system("clone the mount of \(tree)") }
        defer { close(mount) }
        // Read-only: a guest must not fill the node's memory with files of its own beside the mounts.
        let attributes = UInt64(CLINUX_MOUNT_ATTR_RDONLY | CLINUX_MOUNT_ATTR_NOSUID | CLINUX_MOUNT_ATTR_NODEV | CLINUX_MOUNT_ATTR_NOEXEC)
        // Before it can be seen: one that is found mounted is complete.
        guard clinux_set_mount(mount, 0, attributes, UInt64(CLINUX_MS_PRIVATE), -1) == 0, clinux_attach_tree(mount, root) == 0 else {
            throw SwiftletError.system("mount \(root)")
        }
    }

    private var isMounted: Bool {
        get throws {
            var (inside, outside) = (stat(), stat())
            guard stat(root, &inside) == 0, stat(tree, &outside) == 0 else { throw SwiftletError.system("look at \(root)") }
            // The clone shows the directory behind it.
            return inside.st_ino == outside.st_ino && inside.st_dev == outside.st_dev
        }
    }

    /// Takes the share away with all mounts in it. Idempotent; needs neither guest nor virtiofsd. Blocks.
    public func remove() throws {
        try Self.detach(root)
        for container in try Self.names(in: tree) { try removePlaces(container) }
        for path in [root, tree, directory] {
            guard rmdir(path) == 0 || errno == ENOENT else { throw SwiftletError.system("remove directory \(path)") }
        }
    }

    // MARK: Mounts

    /// Mounts `source` as the container's mount number `index`. On a thread of its own (``ShareNamespace``). Blocks.
    ///
    /// - Returns: where it is, relative to the share.
    /// - Throws: errors naming the source's path.
    public func add(
        _ source: HostPath, container: String, index: Int, _ options: Options, in namespace: ShareNamespace
    ) throws -> String {
        let mount = clinux_clone_tree(source.descriptor, 1)
        guard mount >= 0 else { throw SwiftletError.system("host_path \(source.path): clone its mount") }
        defer { close(mount) }
        let propagation = UInt64(options.receivesMounts ? CLINUX_MS_SLAVE : CLINUX_MS_PRIVATE)
        // No device of the node is ever opened through a share, whatever node a guest finds or plants there.
        let attributes = UInt64(CLINUX_MOUNT_ATTR_NODEV | CLINUX_MOUNT_ATTR_NOSUID)
        let readOnly = UInt64(options.readOnly ? CLINUX_MOUNT_ATTR_RDONLY : 0)
        guard clinux_set_mount(mount, 1, attributes, propagation, -1) == 0,
            clinux_set_mount(mount, options.recursiveReadOnly ? 1 : 0, attributes | readOnly, 0, -1) == 0
        else {
            throw SwiftletError.system("host_path \(source.path): set the mount's options")
        }
        if let mappings = options.mappings { try map(mount, mappings, source) }
        let place = "\(container)/\(index)"
        try makePlace(container, index, isDirectory: source.isDirectory)
        do {
            try namespace.attach(mount, at: place)
        } catch {
            throw SwiftletError.wrap(error, "host_path \(source.path)")
        }
        return place
    }

    private func map(_ mount: Int32, _ mappings: IDMappings, _ source: HostPath) throws {
        let namespace = try mappings.userNamespace()
        defer { close(namespace) }
        guard clinux_set_mount(mount, 0, 0, 0, namespace) == 0 else {
            let cause = SystemError(errno)
            throw SwiftletError(
                .failedPrecondition,
                "uidMappings and gidMappings: the node's kernel cannot map the ids of host_path \(source.path), whose filesystem does not "
                    + "allow it or which is mapped already",
                cause: cause)
        }
    }

    private func makePlace(_ container: String, _ index: Int, isDirectory: Bool) throws {
        guard mkdir("\(tree)/\(container)", 0o755) == 0 || errno == EEXIST else {
            throw SwiftletError.system("make directory \(tree)/\(container)")
        }
        let path = "\(tree)/\(container)/\(index)"
        if isDirectory {
            guard mkdir(path, 0o755) == 0 else { throw SwiftletError.system("make directory \(path)") }
        } else {
            let file = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0o644)
            guard file >= 0 else { throw SwiftletError.system("make file \(path)") }
            close(file)
        }
    }

    /// Takes a container's mounts away. Idempotent; needs neither guest nor virtiofsd. Blocks.
    public func remove(container: String) throws {
        // 0.1.0 made them in the node's own namespace.
        for name in try Self.names(in: "\(tree)/\(container)") { try Self.detach("\(root)/\(container)/\(name)") }
        try removePlaces(container)
    }

    private func removePlaces(_ container: String) throws {
        let path = "\(tree)/\(container)"
        for name in try Self.names(in: path) {
            guard unlink("\(path)/\(name)") == 0 || (errno == EISDIR && rmdir("\(path)/\(name)") == 0) || errno == ENOENT else {
                throw SwiftletError.system("remove \(path)/\(name)")
            }
        }
        guard rmdir(path) == 0 || errno == ENOENT else { throw SwiftletError.system("remove directory \(path)") }
    }

    /// Unmounts until nothing is mounted there any more.
    private static func detach(_ path: String) throws {
        while clinux_detach_mount(path) == 0 {}
        // EINVAL: no mount is there (umount(2)).
        guard errno == EINVAL || errno == ENOENT else { throw SwiftletError.system("unmount \(path)") }
    }

    /// Empty without the directory.
    private static func names(in path: String) throws -> [String] {
        do {
            return try KernelFile.names(in: path)
        } catch  where error.systemErrno == ENOENT {
            return []
        }
    }
}

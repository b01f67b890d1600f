import AgentProtocol
import CContainer
import CLinux
import Errors
import Glibc
import Linux

/// A part of a volume, by a path below its root: links in the volume lead nowhere but into it.
enum VolumePart {
    /// Who owns directories that are made in a volume, and their permission bits.
    struct Ownership {
        var uid: UInt32
        var gid: UInt32
        var mode: UInt32
    }

    /// Mounts a part of `volume` at `place`, which is made.
    ///
    /// - Parameter missing: whose directories that are missing on the way become; nil: none are made.
    static func mount(_ subPath: String, of volume: String, at place: String, missing: Ownership? = nil) throws(SwiftletError) {
        let root = try OwnedDescriptor(result: open(volume, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open \(volume)")
        let path = try containerPath("/" + subPath, "sub path")
        if let missing { try makeDirectories(path, in: root, missing) }
        let found = try OwnedDescriptor(result: cc_find_in_root(root.number, path), "find \(printable(subPath)) in the volume")
        var status = stat()
        guard fstat(found.number, &status) == 0 else { throw .system("look at \(printable(subPath))") }
        switch status.st_mode & S_IFMT {
        case S_IFDIR: try makeDirectory(place)
        case S_IFREG: try SmallFile.create(place, holding: "")
        default: throw SwiftletError(.invalidArgument, "\(printable(subPath)) is neither a directory nor a regular file")
        }
        let tree = try OwnedDescriptor(result: clinux_clone_tree(found.number, 0), "clone the mount of \(printable(subPath))")
        guard clinux_attach_tree(tree.number, place) == 0 else { throw .system("mount \(printable(subPath))") }
    }

    /// Makes what is missing of a path, each directory in the one that its parent leads to.
    private static func makeDirectories(_ path: String, in root: OwnedDescriptor, _ ownership: Ownership) throws(SwiftletError) {
        var done = ""
        for name in path.split(separator: "/") {
            let parent = try OwnedDescriptor(result: cc_find_in_root(root.number, done.isEmpty ? "." : done), "find \(printable(done))")
            // What is there is seen by the look-up that follows.
            let isNew = mkdirat(parent.number, String(name), 0o700) == 0
            guard isNew || errno == EEXIST else { throw .system("make \(printable(done))/\(name)") }
            done += "/\(name)"
            guard isNew else { continue }
            // By descriptor: another container may have put something else there by now. The owner first, since it takes set-id
            // bits away.
            let made = try OwnedDescriptor(result: cc_find_in_root(root.number, done), "find \(printable(done))")
            guard chown(made.path, ownership.uid, ownership.gid) == 0, chmod(made.path, mode_t(ownership.mode)) == 0 else {
                throw .system("give \(printable(done)) the volume's owner and mode")
            }
        }
    }
}

import CLinux
import Errors
import Glibc
import Linux

/// The files of an image that a container mounts beside its own root.
enum ImageMount {
    /// Stacks the layers, read-only. Blocks.
    ///
    /// - Parameters:
    ///   - layers: directories, lowest first.
    ///   - subPath: a part of the image, by a path below its root; empty: all of it.
    ///   - path: where they are stacked, if there is anything to stack.
    /// - Returns: what of the node the container is to see. It lies in read-only filesystems, so that nobody puts anything else there.
    static func mount(_ layers: [String], subPath: String, at path: String) throws -> String {
        let files = try stack(layers, at: path)
        do {
            return try part(subPath, of: files)
        } catch {
            // The name by which a kubelet recognizes this failure (cri-api, pkg/errors).
            throw SwiftletError.wrap(error, "ImageVolumeMountFailed: image_sub_path \(quoted(subPath))")
        }
    }

    /// MS_RDONLY, mount(2).
    private static let readOnly: UInt = 1

    private static func stack(_ layers: [String], at path: String) throws -> String {
        guard let first = layers.first else { throw SwiftletError(.invalidArgument, "the image has no layer") }
        // An overlay without an upper directory needs two lower ones; a single layer has nothing to merge.
        guard layers.count > 1 else { return first }
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw SwiftletError.system("make \(path)") }
        var open: [Int32] = []
        defer { for descriptor in open { close(descriptor) } }
        for layer in layers.reversed() {
            let descriptor = Glibc.open(layer, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard descriptor >= 0 else { throw SwiftletError.system("open \(layer)") }
            open.append(descriptor)
        }
        // By descriptor, as in OverlayRoot.
        let lower = open.map { "/proc/self/fd/\($0)" }.joined(separator: ":")
        guard Glibc.mount("overlay", path, "overlay", UInt(CLINUX_MS_NODEV) | readOnly, "lowerdir=\(lower)") == 0 else {
            throw SwiftletError.system("mount the overlay of \(layers.count) layers at \(path)")
        }
        return path
    }

    /// Links of the image lead nowhere but into it; those that begin at "/" do not count as such.
    private static func part(_ subPath: String, of files: String) throws -> String {
        guard !subPath.isEmpty else { return files }
        let root = open(files, O_PATH | O_DIRECTORY | O_CLOEXEC)
        guard root >= 0 else { throw SwiftletError.system("open \(files)") }
        defer { close(root) }
        let found = clinux_open_within(root, subPath, O_PATH | O_CLOEXEC)
        guard found >= 0 else { throw SwiftletError.system("find it in the image") }
        defer { close(found) }
        var status = stat()
        guard fstat(found, &status) == 0 else { throw SwiftletError.system("look at it") }
        guard [S_IFDIR, S_IFREG].contains(status.st_mode & S_IFMT) else {
            throw SwiftletError(.invalidArgument, "it is neither a directory nor a regular file")
        }
        guard let resolved = realpath("/proc/self/fd/\(found)", nil) else { throw SwiftletError.system("name it") }
        defer { free(resolved) }
        guard let path = String(validatingCString: resolved) else {
            throw SwiftletError(.invalidArgument, "it is no UTF-8, which the OCI runtimes of the node take alone")
        }
        return path
    }

    /// Takes away what containers' images are stacked at. Idempotent. Blocks.
    static func remove(below directory: String) throws {
        guard access(directory, F_OK) == 0 else { return }
        for name in try KernelFile.names(in: directory) { try NodeMount.remove("\(directory)/\(name)") }
    }
}

import CLinux
import Errors
import Glibc
import Linux

/// A container's root: the layers of its image below a writable one.
enum OverlayRoot {
    /// Stacks it at `path`. Blocks.
    ///
    /// - Parameters:
    ///   - layers: directories, lowest first.
    ///   - writable: a directory of the container's own, empty.
    ///   - label: SELinux's, of all files; nil: each has its own.
    static func mount(_ layers: [String], writable: String, at path: String, label: String? = nil) throws {
        for directory in [path, "\(writable)/upper", "\(writable)/work"] {
            guard mkdir(directory, 0o755) == 0 || errno == EEXIST else { throw SwiftletError.system("make \(directory)") }
        }
        var open: [Int32] = []
        defer { for descriptor in open { close(descriptor) } }
        for directory in layers.reversed() + ["\(writable)/upper", "\(writable)/work"] {
            let descriptor = Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard descriptor >= 0 else { throw SwiftletError.system("open \(directory)") }
            open.append(descriptor)
        }
        try copyOwnership(from: open[0], to: open[layers.count])
        // By descriptor: neither the number of layers nor a character of a path can upset the options, one page of them.
        let names = open.map { "/proc/self/fd/\($0)" }
        let lower = names[..<layers.count].joined(separator: ":")
        // Volatile: a container does not outlive the node, so that its fsync need not reach the disk.
        let options =
            "lowerdir=\(lower),upperdir=\(names[layers.count]),workdir=\(names[layers.count + 1]),volatile"
            + (label.map { ",context=\"\($0)\"" } ?? "")
        // Device nodes of images are none; a container's own are in its /dev, a tmpfs.
        guard Glibc.mount("overlay", path, "overlay", UInt(CLINUX_MS_NODEV), options) == 0 else {
            throw SwiftletError.system("mount the overlay of \(layers.count) layers at \(path)")
        }
    }

    /// "/" of the container has the mode and owner that its image says.
    private static func copyOwnership(from layer: Int32, to upper: Int32) throws {
        var status = stat()
        guard fstat(layer, &status) == 0, fchown(upper, status.st_uid, status.st_gid) == 0, fchmod(upper, status.st_mode & 0o7777) == 0
        else { throw SwiftletError.system("copy the owner of the image's root") }
    }
}

import CLinux
import Errors
import Glibc
import Runtime

/// The files of a mount of the node, as they are at one moment, such as a ConfigMap's: through links, never out of the mount, and no more
/// than a seed may hold.
struct MountFiles {
    struct File: Sendable, Equatable {
        /// Relative to the mount; the mount's own name where it is a file.
        var path: String
        var contents: [UInt8]
        /// Permission bits.
        var mode: UInt32
        /// The mount is this file, and no directory.
        var isMount = false
    }

    struct Limits: Sendable {
        /// Of one file: what Kubernetes lets a ConfigMap or a Secret have.
        var fileBytes = 1 << 20
        /// Of all.
        var bytes = 4 << 20
        var files = 1000
        var depth = 8
    }

    private let limits: Limits
    private let name: String
    private var bytes = 0
    private var files: [File] = []
    private var directories = 0

    /// - Throws: naming the file that is missing, no regular file, or too large. Blocks.
    static func read(_ mount: ContainerMount, limits: Limits = Limits()) throws -> [File] {
        var reader = MountFiles(limits: limits, name: mount.containerPath)
        try reader.read(mount.hostPath)
        return reader.files.sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
    }

    private init(limits: Limits, name: String) {
        self.limits = limits
        self.name = name
    }

    private mutating func read(_ hostPath: String) throws {
        // A path alone is opened: to open a device or a pipe may have an effect, or may have to wait.
        let root = open(hostPath, Int32(CLINUX_O_PATH) | O_CLOEXEC)
        guard root >= 0 else { throw SwiftletError.system("mount \(printable(name)): open \(printable(hostPath))") }
        defer { close(root) }
        guard mode(of: root) & S_IFMT == S_IFDIR else {
            var file = try contents(of: root, path: String(name.split(separator: "/").last ?? "file"))
            file.isMount = true
            files.append(file)
            return
        }
        // The kubelet replaces "..data" at once: what is read is of one version. One that is replaced meanwhile is removed.
        var attempts = 3
        while true {
            attempts -= 1
            let current = clinux_open_within(root, "..data", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            defer { if current >= 0 { close(current) } }
            do {
                (bytes, files, directories) = (0, [], 0)
                try list(current >= 0 ? current : root, "", depth: 0)
                return
            } catch let error as SwiftletError where error.code == .notFound && current >= 0 && attempts > 0 { continue }
        }
    }

    private mutating func list(_ root: Int32, _ path: String, depth: Int) throws {
        guard depth <= limits.depth else { throw refusal(path, "is nested deeper than \(limits.depth) directories") }
        let descriptor = clinux_open_within(root, path.isEmpty ? "." : path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(path) }
        guard let stream = fdopendir(descriptor) else {
            let error = failure(path)
            close(descriptor)
            throw error
        }
        defer { closedir(stream) }
        directories += 1
        guard directories <= limits.files else { throw refusal("", "has more than \(limits.files) directories") }
        while let entry = readdir(stream) {
            guard let name = String(validatingCString: clinux_entry_name(entry)) else {
                throw refusal(path, "has a name that is not UTF-8")
            }
            // Those that begin with two dots are the kubelet's own.
            guard name != ".", !name.hasPrefix("..") else { continue }
            try take(root, path.isEmpty ? name : "\(path)/\(name)", depth: depth)
        }
    }

    private mutating func take(_ root: Int32, _ path: String, depth: Int) throws {
        let descriptor = clinux_open_within(root, path, Int32(CLINUX_O_PATH) | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(path) }
        defer { close(descriptor) }
        if mode(of: descriptor) & S_IFMT == S_IFDIR { return try list(root, path, depth: depth + 1) }
        guard files.count < limits.files else { throw refusal("", "has more than \(limits.files) files") }
        files.append(try contents(of: descriptor, path: path))
    }

    /// - Parameter place: opened as a path alone.
    private mutating func contents(of place: Int32, path: String) throws -> File {
        let mode = mode(of: place)
        guard mode & S_IFMT == S_IFREG else { throw refusal(path, "is no regular file") }
        // The very file that was looked at, whatever has its name by now.
        let descriptor = open("/proc/self/fd/\(place)", O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard descriptor >= 0 else { throw failure(path) }
        defer { close(descriptor) }
        var contents: [UInt8] = []
        var block = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = Glibc.read(descriptor, &block, block.count)
            if count == 0 { break }
            guard count > 0 else { throw failure(path) }
            contents += block[..<count]
            guard contents.count <= limits.fileBytes else { throw refusal(path, "has more than \(limits.fileBytes) bytes") }
        }
        bytes += contents.count
        guard bytes <= limits.bytes else { throw refusal("", "has more than \(limits.bytes) bytes of files") }
        return File(path: path, contents: contents, mode: mode & 0o7777)
    }

    private func mode(of descriptor: Int32) -> mode_t {
        var status = stat()
        return fstat(descriptor, &status) == 0 ? status.st_mode : 0
    }

    private func failure(_ path: String) -> SwiftletError { SwiftletError.system("mount \(printable(name)): open \(quoted(path))") }

    private func refusal(_ path: String, _ problem: String) -> SwiftletError {
        SwiftletError(.invalidArgument, "mount \(printable(name))\(path.isEmpty ? "" : ": " + quoted(path)) \(problem)")
    }
}

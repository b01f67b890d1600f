import AgentProtocol
import CLinux
import Glibc

/// Counts what a directory tree takes on its filesystem.
///
/// The tree is a container's: it may be of any size and depth and change meanwhile. Memory and open files are bounded,
/// nothing is followed, and no other filesystem is entered.
struct LayerWalk {
    /// Directories deeper than this are counted themselves, what is in them is not.
    static let deepest = 64

    private var bytes: UInt64 = 0
    /// A file of several links counts once when all of them are found: each is worth its share.
    private var inodes = 0.0
    private var budget: Int
    private var device: dev_t = 0

    /// - Parameter budget: files and directories at most.
    /// - Returns: the sums, and whether they are of the whole tree; nil without the directory.
    static func count(_ directory: String, budget: Int) -> (stats: AgentLayerStats, isComplete: Bool)? {
        var walk = LayerWalk(budget: budget)
        guard walk.run(directory) else { return nil }
        let stats = AgentLayerStats.with {
            $0.usedBytes = walk.bytes
            $0.inodes = UInt64(walk.inodes.rounded())
        }
        return (stats, walk.budget > 0)
    }

    private init(budget: Int) {
        self.budget = budget
    }

    private mutating func run(_ directory: String) -> Bool {
        var status = stat()
        guard let top = Self.open(AT_FDCWD, directory) else { return false }
        var stack = [top]
        defer { for directory in stack { closedir(directory) } }
        guard fstat(dirfd(top), &status) == 0 else { return false }
        device = status.st_dev
        add(status)
        while let current = stack.last, budget > 0 {
            guard let entry = readdir(current) else {
                closedir(current)
                stack.removeLast()
                continue
            }
            let found = visit(clinux_entry_name(entry), in: current, mayEnter: stack.count < Self.deepest)
            if let found { stack.append(found) }
        }
        return true
    }

    /// - Returns: the directory to go on in.
    private mutating func visit(_ name: UnsafePointer<CChar>, in directory: OpaquePointer, mayEnter: Bool) -> OpaquePointer? {
        if strcmp(name, ".") == 0 || strcmp(name, "..") == 0 { return nil }
        var status = stat()
        guard fstatat(dirfd(directory), name, &status, AT_SYMLINK_NOFOLLOW) == 0, status.st_dev == device else { return nil }
        add(status)
        guard status.st_mode & S_IFMT == S_IFDIR, mayEnter else { return nil }
        return Self.open(dirfd(directory), name)
    }

    private mutating func add(_ status: stat) {
        budget -= 1
        let links = status.st_mode & S_IFMT == S_IFDIR ? 1 : max(UInt64(status.st_nlink), 1)
        // st_blocks counts 512 bytes each, whatever the filesystem's own blocks are (stat(3type)).
        bytes += UInt64(max(status.st_blocks, 0)) * 512 / links
        inodes += 1 / Double(links)
    }

    private static func open(_ parent: Int32, _ name: UnsafePointer<CChar>) -> OpaquePointer? {
        let descriptor = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return nil }
        guard let stream = fdopendir(descriptor) else {
            close(descriptor)
            return nil
        }
        return stream
    }
}

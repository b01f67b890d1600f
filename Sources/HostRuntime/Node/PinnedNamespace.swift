import CLinux
import Concurrency
import Errors
import Glibc
import Linux

/// A namespace of a pod, which is bound at a path.
enum PinnedNamespace: String, CaseIterable, Sendable {
    case uts
    case ipc
    /// The only one that is nothing without a process, its first.
    case pid

    /// Those that need no process.
    static let free: [PinnedNamespace] = [.uts, .ipc]

    var flag: Int32 {
        switch self {
        case .uts: Int32(CLINUX_CLONE_NEWUTS)
        case .ipc: Int32(CLINUX_CLONE_NEWIPC)
        case .pid: Int32(CLINUX_CLONE_NEWPID)
        }
    }

    /// Binds the namespace of a process. Blocks.
    ///
    /// - Throws: `.notFound` when the process has ended.
    func bind(of process: ProcessIdentity, at path: String) throws {
        let step = "bind the pod's \(rawValue) namespace at \(path)"
        let file = open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o444)
        guard file >= 0 else { throw SwiftletError.system(step) }
        close(file)
        guard mount("/proc/\(process.pid)/ns/\(rawValue)", path, "none", UInt(CLINUX_MS_BIND), nil) == 0 else {
            throw SwiftletError.system(step)
        }
        guard process.isAlive else { throw SwiftletError(.notFound, "\(step): process \(process.pid) has ended") }
    }

    /// Makes a namespace that needs no process and binds it; one that is bound there is kept. Blocks.
    ///
    /// - Parameter hostname: of a UTS namespace.
    func create(at path: String, hostname: String) throws {
        guard !NetworkNamespace.isBound(at: path) else { return }
        let (flag, name) = (flag, rawValue)
        let step = "make the pod's \(name) namespace \(path)"
        let file = open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o444)
        guard file >= 0 else { throw SwiftletError.system(step) }
        close(file)
        // unshare(2) moves the calling thread, which ends with this.
        try OwnThread.runAndWait {
            guard clinux_unshare(flag) == 0 else { throw SwiftletError.system("\(step): unshare") }
            if name == PinnedNamespace.uts.rawValue, sethostname(hostname, hostname.utf8.count) != 0 {
                throw SwiftletError.system("\(step): set the host name \(quoted(hostname))")
            }
            guard mount("/proc/thread-self/ns/\(name)", path, "none", UInt(CLINUX_MS_BIND), nil) == 0 else {
                throw SwiftletError.system("\(step): bind mount")
            }
        }
    }
}

/// Mounts that the daemon makes on the node.
enum NodeMount {
    /// Takes away all that is mounted at the path; nothing there is success. Processes that use it keep it. Blocks.
    static func remove(_ path: String) throws {
        // EINVAL of umount2(2): nothing is mounted there.
        while umount2(path, Int32(CLINUX_MNT_DETACH | CLINUX_UMOUNT_NOFOLLOW)) == 0 {}
        guard errno == EINVAL || errno == ENOENT || errno == ENOTDIR else { throw SwiftletError.system("unmount \(path)") }
    }

    /// A tmpfs for a pod's shared memory; one that is there is kept. Blocks.
    static func createSharedMemory(at path: String) throws {
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw SwiftletError.system("make \(path)") }
        guard !isMountPoint(path) else { return }
        let flags = UInt(CLINUX_MS_NOSUID | CLINUX_MS_NODEV | CLINUX_MS_NOEXEC)
        guard mount("shm", path, "tmpfs", flags, "mode=1777,size=65536k") == 0 else {
            throw SwiftletError.system("mount the pod's shared memory at \(path)")
        }
    }

    /// Whether another filesystem than that of the directory above is there.
    static func isMountPoint(_ path: String) -> Bool {
        var (own, above) = (stat(), stat())
        guard lstat(path, &own) == 0, lstat(path + "/..", &above) == 0 else { return false }
        return own.st_dev != above.st_dev
    }
}

import CLinux
import Concurrency
import Errors
import Glibc

/// Network namespaces kept alive by a bind mount at a path, as ip-netns(8) and CNI know them.
public enum NetworkNamespace {
    /// Makes a new network namespace and binds it at `path`; a namespace that is already bound there is kept.
    ///
    /// The directory is made when missing. The new namespace holds only a loopback device, which is down.
    public static func create(at path: String) throws {
        if isBound(at: path) { return }
        let step = "creating network namespace \(path)"
        try makeDirectories(above: path)
        let file = Glibc.open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o444)
        guard file >= 0 else { throw SwiftletError.system(step) }
        close(file)
        do {
            // A thread of its own, because unshare moves the calling thread; it ends and takes nothing with it.
            try OwnThread.runAndWait {
                guard clinux_unshare(Int32(CLINUX_CLONE_NEWNET)) == 0 else { throw SwiftletError.system("\(step): unshare") }
                guard mount("/proc/thread-self/ns/net", path, "none", UInt(CLINUX_MS_BIND), nil) == 0 else {
                    throw SwiftletError.system("\(step): bind mount")
                }
            }
        } catch {
            unlink(path)
            throw error
        }
    }

    /// Makes a new network namespace that is bound nowhere, with a loopback device that is down. It ends with the last descriptor and
    /// process in it. The caller closes the descriptor.
    public static func create() throws -> Int32 {
        try OwnThread.runAndWait {
            guard clinux_unshare(Int32(CLINUX_CLONE_NEWNET)) == 0 else { throw SwiftletError.system("make a network namespace") }
            let descriptor = Glibc.open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else { throw SwiftletError.system("open a new network namespace") }
            return descriptor
        }
    }

    /// Where a namespace that is open here stands for the functions that take a path.
    public static func path(of descriptor: Int32) -> String { "/proc/self/fd/\(descriptor)" }

    /// Unbinds the namespace and removes the file; nothing there is success.
    ///
    /// The namespace itself ends when no process, socket or descriptor is left in it.
    public static func delete(at path: String) throws {
        while isBound(at: path) {
            guard umount2(path, Int32(CLINUX_MNT_DETACH | CLINUX_UMOUNT_NOFOLLOW)) == 0 else {
                throw SwiftletError.system("deleting network namespace \(path): unmount")
            }
        }
        guard unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR else {
            throw SwiftletError.system("deleting network namespace \(path): remove the file")
        }
    }

    /// Whether a namespace is bound at `path`, and not just a file left there.
    public static func isBound(at path: String) -> Bool { clinux_filesystem_magic(path) == Int(CLINUX_NSFS_MAGIC) }

    /// Runs `work` on a new thread inside the namespace and suspends until it is done.
    public static func run<Value: Sendable>(in path: String, _ work: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await OwnThread.run {
            try enter(path)
            return try work()
        }
    }

    /// Runs `work` on a new thread inside the namespace and blocks the caller: for calls the kernel answers at once.
    public static func runAndWait<Value: Sendable>(in path: String, _ work: @escaping @Sendable () throws -> Value) throws -> Value {
        try OwnThread.runAndWait {
            try enter(path)
            return try work()
        }
    }

    /// Opens the namespace, to move links into it. The caller closes the descriptor.
    public static func open(_ path: String) throws -> Int32 {
        guard isBound(at: path) else {
            throw SwiftletError(.notFound, "no network namespace is bound at \(path)")
        }
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SwiftletError.system("opening network namespace \(path)") }
        return descriptor
    }

    private static func enter(_ path: String) throws {
        let descriptor = try open(path)
        defer { close(descriptor) }
        guard clinux_setns(descriptor, Int32(CLINUX_CLONE_NEWNET)) == 0 else {
            throw SwiftletError.system("entering network namespace \(path)")
        }
    }

    private static func makeDirectories(above path: String) throws {
        let parts = path.split(separator: "/").dropLast()
        var directory = path.hasPrefix("/") ? "" : "."
        for part in parts {
            directory += "/" + part
            guard mkdir(directory, 0o755) == 0 || errno == EEXIST else {
                throw SwiftletError.system("creating directory \(directory)")
            }
        }
    }
}

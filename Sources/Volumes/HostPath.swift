import CLinux
import Errors
import Glibc
import Linux

/// A path of the node, looked up once: what it leads to afterwards does not matter any more.
public final class HostPath: Sendable {
    /// As the client named it.
    public let path: String
    /// Opened with O_PATH.
    let descriptor: Int32
    let status: stat
    private let mount: MountTable.Entry?

    deinit { close(descriptor) }

    public var isDirectory: Bool { status.st_mode & S_IFMT == S_IFDIR }

    /// Looks the path up, through symbolic links.
    ///
    /// - Throws: `failedPrecondition` naming the path when nothing is there, or something that cannot be shared with a guest.
    public init(_ path: String) throws {
        self.path = path
        descriptor = open(path, Int32(CLINUX_O_PATH) | O_CLOEXEC)
        guard descriptor >= 0 else {
            let cause = SystemError(errno)
            let absent = cause.number == ENOENT || cause.number == ENOTDIR
            throw SwiftletError(
                absent ? .failedPrecondition : cause.code,
                absent ? "host_path \(path) does not exist on the node" : "host_path \(path) cannot be opened", cause: cause)
        }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            let error = SwiftletError.system("look at host_path \(path)")
            close(descriptor)
            throw error
        }
        self.status = status
        do {
            try Self.checkKind(status, path)
            mount = try MountTable.current().mount(of: descriptor)
        } catch {
            close(descriptor)
            throw error
        }
    }

    private static func checkKind(_ status: stat, _ path: String) throws {
        let kind: String
        switch status.st_mode & S_IFMT {
        case S_IFDIR, S_IFREG: return
        case S_IFSOCK: kind = "a unix socket: nothing in a virtual machine can connect to a process of the node through it"
        case S_IFBLK, S_IFCHR: kind = "a device node: a virtual machine has devices of its own"
        case S_IFIFO: kind = "a named pipe: its ends would be on two different kernels"
        default: kind = "neither a directory nor a regular file"
        }
        throw SwiftletError(.failedPrecondition, "host_path \(path) is \(kind); mount a directory or a regular file")
    }

    /// Whether one of the two directories is in the other, or both are the same. Blocks.
    public func overlaps(_ directory: String) -> Bool {
        guard let own = Self.canonical("/proc/self/fd/\(descriptor)"), let other = Self.canonical(directory) else { return false }
        return (own + "/").hasPrefix(other + "/") || (other + "/").hasPrefix(own == "/" ? own : own + "/")
    }

    private static func canonical(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    /// Whether mounts made below it later can be passed on.
    public var receivesMounts: Bool { mount.map { $0.isShared || $0.isSlave } ?? false }

    /// Whether something is mounted below it. Blocks.
    public var holdsMounts: Bool {
        guard let own = Self.canonical("/proc/self/fd/\(descriptor)"), let table = try? MountTable.current() else { return false }
        return table.entries.contains { $0.mountPoint.hasPrefix(own == "/" ? own : own + "/") && $0.mountPoint != own }
    }

    /// The emptyDir in memory that the path is in, as the kubelet mounts it; nil for everything else.
    public var memoryVolume: MemoryVolume? {
        guard isDirectory, let mount, mount.filesystem == "tmpfs" else { return nil }
        // The subPath of such a volume is a bind mount elsewhere, of the same filesystem.
        guard let table = try? MountTable.current(),
            let volume = table.entries.first(where: {
                $0.device == mount.device && $0.root == "/" && $0.mountPoint.contains("/volumes/kubernetes.io~empty-dir/")
            }),
            let part = pathInFilesystem(mount)
        else { return nil }
        var rootStatus = stat()
        var size = statvfs()
        guard stat(volume.mountPoint, &rootStatus) == 0, rootStatus.st_dev == status.st_dev, statvfs(volume.mountPoint, &size) == 0
        else { return nil }
        return MemoryVolume(
            name: "tmpfs-" + mount.device.replacing(":", with: "-"), size: UInt64(size.f_blocks) * UInt64(size.f_frsize),
            mode: rootStatus.st_mode & 0o7777, uid: rootStatus.st_uid, gid: rootStatus.st_gid, subPath: part)
    }

    /// Where in its filesystem the path is, without the leading slash.
    private func pathInFilesystem(_ mount: MountTable.Entry) -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = readlink("/proc/self/fd/\(descriptor)", &buffer, buffer.count)
        guard count > 0, count < buffer.count else { return nil }
        let real = String(decoding: buffer[..<count], as: UTF8.self)
        guard real == mount.mountPoint || real.hasPrefix(mount.mountPoint == "/" ? "/" : mount.mountPoint + "/") else { return nil }
        let parts = mount.root.split(separator: "/") + real.dropFirst(mount.mountPoint.count).split(separator: "/")
        return parts.joined(separator: "/")
    }
}

/// An emptyDir of medium Memory: a tmpfs that the kubelet has mounted on the node and that the guest makes of its own memory.
public struct MemoryVolume: Sendable, Equatable {
    /// The same for every path into one volume: 1 to 64 letters, digits and dashes.
    public var name: String
    /// Bytes.
    public var size: UInt64
    /// Permission bits of its root.
    public var mode: UInt32
    public var uid: UInt32
    public var gid: UInt32
    /// The part that is mounted, relative to its root; empty: all.
    public var subPath: String
}

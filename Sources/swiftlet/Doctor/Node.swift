import CLinux
import Glibc
import Linux

/// What doctor looks at; tests put a made-up machine in its place.
protocol Node: Sendable {
    /// The errno of opening a device for reading and writing; nil when it opens.
    func openFailure(_ path: String) -> Int32?
    func status(_ path: String) -> FileStatus?
    /// The beginning of a text file, 64 KiB at most; nil when it cannot be read.
    func text(_ path: String) -> String?
    /// The names in a directory, sorted; nil when it cannot be read.
    func entries(_ directory: String) -> [String]?
    /// Why nobody answers at a unix socket; nil when somebody does.
    func connectFailure(_ socket: String) -> String?
    /// Bytes free and in all on the file system of a directory, or of its nearest parent that exists.
    func space(_ directory: String) -> (free: UInt64, total: UInt64)?
    /// The type of the file system of a directory, or of its nearest parent that exists: "ext4", or the magic number of statfs(2) in
    /// hexadecimal; nil when it cannot be asked.
    func fileSystem(_ directory: String) -> String?
    /// Absolute path of a program in $PATH or the system's directories.
    func program(_ name: String) -> String?
    /// How a program ends within a few seconds; nil when it does not.
    func run(_ program: String, _ arguments: [String]) async -> ProgramEnd?
    func cgroupLayout() -> Cgroups.Layout?
}

extension Node {
    /// What a program prints to standard output; nil when it fails.
    func output(_ program: String, _ arguments: [String]) async -> String? {
        guard let end = await run(program, arguments), end.succeeded else { return nil }
        return end.output
    }
}

/// How a program ended.
struct ProgramEnd: Equatable, Sendable {
    var succeeded: Bool
    var output: String
    /// Of its standard error.
    var errors: String
}

struct FileStatus: Equatable, Sendable {
    /// Permission bits.
    var mode: UInt32
    var group: String
}

/// This machine.
struct ThisNode: Node {
    func openFailure(_ path: String) -> Int32? {
        let descriptor = open(path, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { return errno }
        close(descriptor)
        return nil
    }

    func status(_ path: String) -> FileStatus? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        let group = getgrgid(status.st_gid).map { String(cString: $0.pointee.gr_name) } ?? "\(status.st_gid)"
        return FileStatus(mode: status.st_mode & 0o7777, group: group)
    }

    func text(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        let count = read(descriptor, &bytes, bytes.count)
        return count < 0 ? nil : String(decoding: bytes[..<count], as: UTF8.self)
    }

    func entries(_ directory: String) -> [String]? {
        (try? KernelFile.names(in: directory))?.sorted()
    }

    func connectFailure(_ socket: String) -> String? { UnixSocket.connectFailure(path: socket) }

    func space(_ directory: String) -> (free: UInt64, total: UInt64)? {
        var path = directory
        var status = statvfs()
        while statvfs(path, &status) != 0 {
            guard errno == ENOENT, let slash = path.lastIndex(of: "/"), path != "/" else { return nil }
            path = slash == path.startIndex ? "/" : String(path[..<slash])
        }
        return (UInt64(status.f_bavail) * UInt64(status.f_frsize), UInt64(status.f_blocks) * UInt64(status.f_frsize))
    }

    /// Magic numbers of statfs(2).
    private static let fileSystems: [Int: String] = [
        0xEF53: "ext4", 0x5846_5342: "xfs", 0x9123_683E: "btrfs", 0xF2F5_2010: "f2fs", 0x2FC1_2FC1: "zfs", 0x0102_1994: "tmpfs",
        0x8584_58F6: "ramfs", 0x794C_7630: "overlayfs", 0x4D44: "vfat", 0x2011_BAB0: "exfat", 0x6969: "nfs", 0xFF53_4D42: "cifs",
        0xFE53_4D42: "cifs", 0x6573_5546: "fuse", 0x0102_1997: "9p",
    ]

    func fileSystem(_ directory: String) -> String? {
        var path = directory
        while true {
            let type = clinux_filesystem_magic(path)
            if type >= 0 {
                // 32 bits.
                let magic = Int(type) & 0xFFFF_FFFF
                return Self.fileSystems[magic] ?? "0x" + String(magic, radix: 16)
            }
            guard errno == ENOENT, let slash = path.lastIndex(of: "/"), path != "/" else { return nil }
            path = slash == path.startIndex ? "/" : String(path[..<slash])
        }
    }

    func program(_ name: String) -> String? {
        let listed = getenv("PATH").map { String(cString: $0) }?.split(separator: ":").map(String.init) ?? []
        let directories =
            [Self.ownDirectory()].compactMap(\.self) + listed + ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"]
        return directories.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
    }

    /// Where this program lies: its companions are installed beside it.
    private static func ownDirectory() -> String? {
        guard let path = realpath("/proc/self/exe", nil) else { return nil }
        defer { free(path) }
        let text = String(cString: path)
        return text.lastIndex(of: "/").map { String(text[..<$0]) }
    }

    func run(_ program: String, _ arguments: [String]) async -> ProgramEnd? {
        let spawn = Spawn(program, arguments, deadline: .seconds(5), outputLimit: 64 << 10)
        guard let result = try? await spawn.run() else { return nil }
        return ProgramEnd(succeeded: result.succeeded, output: result.outputText, errors: result.errorText)
    }

    func cgroupLayout() -> Cgroups.Layout? { try? Cgroups.detect().layout }
}

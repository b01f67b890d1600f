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

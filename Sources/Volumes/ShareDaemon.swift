import CLinux
import Errors
import Glibc
import Linux

/// The virtiofsd process that serves one pod's share to its machine (QEMU's, /usr/lib/qemu/virtiofsd).
///
/// It belongs to the machine, not to the daemon, and ends with QEMU's connection. It confines itself: its own mount, PID and
/// network namespaces, the share as its root, a seccomp filter, and no capability but those that keep owners and modes.
public struct ShareDaemon: Sendable {
    public var binary: String

    /// What it keeps for its work, and the last two for its set-up: mounts, and to let go of the rest. One thread of it, which begins
    /// before the set-up and waits for work that this program never has, keeps all of these and no filter.
    private static let capabilities: Set<Int32> = [
        CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_SETGID, CAP_SETUID, CAP_SETFCAP, CAP_SYS_ADMIN, CAP_SETPCAP,
    ]
    /// Seconds for which a guest may rely on what it knows of a name: an atomic change on the node shows within this time.
    static let attributeTimeout = "0.5"
    /// Most files of the node that a guest can keep open or in its cache at once.
    static let mostFiles: UInt64 = 1 << 19
    /// Bytes of output that are kept, in memory, readable as /proc/PID/fd/2.
    private static let outputLimit: off_t = 16 << 10

    public init(binary: String) { self.binary = binary }

    /// Starts the process; it takes one connection. Blocks.
    ///
    /// - Parameters:
    ///   - root: the directory that it serves.
    ///   - socket: where QEMU, as `uid` and `gid`, will connect. At most 107 bytes.
    public func start(root: String, socket: String, uid: UInt32, gid: UInt32) throws -> ProcessIdentity {
        let listener = try Self.listen(socket, uid: uid, gid: gid)
        defer { close(listener) }
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        guard null >= 0 else { throw SwiftletError.system("open /dev/null") }
        defer { close(null) }
        let output = clinux_bounded_memfd("virtiofsd", Self.outputLimit)
        guard output >= 0 else { throw SwiftletError.system("make a memory file for virtiofsd's output") }
        defer { close(output) }
        let child = try DetachedProcess(
            binary, arguments(root: root), descriptors: [null, output, output, listener],
            capabilities: Self.capabilities)
        guard let identity = ProcessIdentity.of(child.pid) else {
            child.killAndReap()
            throw SwiftletError(.unavailable, "\(binary) ended at once; it said: \(Self.said(output))")
        }
        return identity
    }

    private func arguments(root: String) -> [String] {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        return [
            "--fd=3", "-o", Self.sourceArgument(root), "-o", "sandbox=namespace", "-o", "cache=auto", "-o",
            "timeout=\(Self.attributeTimeout)", "-o", "announce_submounts", "-o", "xattr",
            // What a guest could do with mknod on the node is not worth what a container could want with it.
            "-o", "modcaps=-mknod", "-o", "log_level=err", "--rlimit-nofile=\(min(UInt64(limit.rlim_max), Self.mostFiles))",
        ]
    }

    private static func sourceArgument(_ root: String) -> String { "source=\(root)" }

    private static func listen(_ path: String, uid: UInt32, gid: UInt32) throws -> Int32 {
        let step = "listen on \(path)"
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw SwiftletError.system(step) }
        unlink(path)
        guard clinux_unix_bind(descriptor, path, 0o600) == 0, chown(path, uid, gid) == 0, Glibc.listen(descriptor, 1) == 0 else {
            let error = SwiftletError.system(step)
            close(descriptor)
            throw error
        }
        return descriptor
    }

    /// Ends the process of a share, in the middle of whatever it does. Succeeds when there is none. Blocks.
    ///
    /// - Parameters:
    ///   - root: as it was started with: finds the processes where none was ever written down.
    ///   - processes: as `start` and `processes` returned them; empty where none was written down. A child that is not among them gets
    ///     SIGTERM at the end of its parent, as it has asked the kernel for (prctl(2), PR_SET_PDEATHSIG).
    public func stop(root: String, processes: [ProcessIdentity]) throws {
        let found = processes.isEmpty ? self.processes(root: root) : processes
        for process in found { process.kill() }
        for process in found where !process.waitForExit(.seconds(5)) {
            throw SwiftletError(.deadlineExceeded, "virtiofsd \(process.pid) does not end on SIGKILL")
        }
        for process in found { process.reap() }
    }

    /// The processes that serve a share, by their command lines: the one started, and once QEMU has connected its child, which is
    /// PID 1 of a namespace of its own. Searches through all processes.
    public func processes(root: String) -> [ProcessIdentity] {
        let source = Self.sourceArgument(root)
        return ProcessTable.all(of: ProcessTable.users()) { $0.contains(source) && $0.contains("--fd=3") }
    }

    /// The end of the output, for an error message.
    private static func said(_ output: Int32) -> String {
        var bytes = [UInt8](repeating: 0, count: 1024)
        let count = pread(output, &bytes, bytes.count, 0)
        let text = String(decoding: bytes.prefix(max(0, count)).prefix { $0 != 0 }, as: UTF8.self)
        return text.isEmpty ? "nothing" : text
    }
}

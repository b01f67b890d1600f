import AgentProtocol
import CLinux
import Errors
import Glibc
import Linux

/// A guest that is not the agent's own, as the one container it has: processes run beside the guest's own, as root.
///
/// They are started by posix_spawn(3), which every kernel that has a vsock driver knows; containers' processes need Linux 5.9.
final class GuestProcesses: PodContainer {
    /// As Debian's and Fedora's login(1) gives it to root.
    static let searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    /// What the kernel had killed before the agent came.
    private let earlierKills = GuestProcesses.kills

    var oomKillCount: UInt64 {
        let (now, before) = (Self.kills, earlierKills)
        return now > before ? now - before : 0
    }

    func exec(_ process: AgentProcessSpec, inherit: Bool, stdio: ProcessDescriptors) throws(SwiftletError) -> pid_t {
        try Self.spawn(
            try ProcessPlan.arguments(process), Self.environment(terminal: process.terminal) + process.env.map { Array($0) }, stdio)
    }

    /// The guest's own /dev/pts has them.
    func openTerminal() -> (master: Int32, slave: Int32)? { nil }

    func prepare(stdio: ProcessDescriptors) throws(SwiftletError) -> ResolvedUser { throw Self.isNoContainer }
    func start() throws(SwiftletError) -> pid_t { throw Self.isNoContainer }
    func signalAll(_ signal: Int32) throws(SwiftletError) { throw Self.isNoContainer }
    func update(_ files: [String: String]) throws(SwiftletError) { throw Self.isNoContainer }
    func release() {}

    private static let isNoContainer = SwiftletError(.unimplemented, "the guest is no container: its machine starts and ends it")

    /// How often the kernel has killed a process for lack of memory (/proc/vmstat, since Linux 4.13).
    private static var kills: UInt64 {
        let line = Files.text("/proc/vmstat", limit: 64 << 10)?.split(separator: "\n").first { $0.hasPrefix("oom_kill ") }
        return line?.split(separator: " ").last.flatMap { UInt64($0) } ?? 0
    }

    /// As of a login of root's.
    static func environment(terminal: Bool) -> [[UInt8]] {
        var entries = ["PATH=\(searchPath)", "HOME=\(home)", "USER=root", "LOGNAME=root"]
        if terminal { entries.append("TERM=xterm") }
        return entries.map { Array($0.utf8) }
    }

    private static var home: String {
        let users = UserDatabase(passwd: KernelFile.bytes("/etc/passwd", limit: 1 << 20) ?? [], group: [])
        let home = users.home(of: 0)
        return home == "/" ? "/root" : home
    }

    /// Starts a process with a session of its own, and its terminal as the controlling one. A command without a slash is looked up in
    /// the agent's PATH.
    ///
    /// - Throws: `.notFound` for a command that does not exist; `.invalidArgument` for one that cannot be executed.
    static func spawn(
        _ arguments: [String], _ environment: [[UInt8]], _ streams: ProcessDescriptors
    ) throws(SwiftletError) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if streams.terminal {
            // Opened by the leader of a session without a terminal: it is the session's from then on (tty_ioctl(4), TIOCSCTTY).
            posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, try terminalPath(streams.stdin), O_RDWR, 0)
            for number in [STDOUT_FILENO, STDERR_FILENO] { posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, number) }
        } else {
            for (number, descriptor) in [streams.stdin, streams.stdout, streams.stderr].enumerated() {
                posix_spawn_file_actions_adddup2(&actions, descriptor, Int32(number))
            }
        }
        clinux_spawn_close_from(&actions, STDERR_FILENO + 1)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // Whatever started the agent may have had signals ignored, or blocked: a shell ignores SIGINT for what it puts in the background.
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigdefault(&attributes, &all)
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK) | newSession)
        let memory = CMemory()
        let vector = { (texts: [[UInt8]]) in texts.map { UnsafeMutablePointer(mutating: memory.string($0)) } + [nil] }
        let (argv, envp) = (vector(arguments.map { Array($0.utf8) }), vector(environment))
        var pid: pid_t = 0
        let failure = withExtendedLifetime(memory) { posix_spawnp(&pid, arguments[0], &actions, &attributes, argv, envp) }
        switch failure {
        case 0: return pid
        case ENOENT, ENOTDIR:
            throw SwiftletError(.notFound, "\"\(printable(arguments[0]))\" is not a program of the guest", cause: SystemError(failure))
        default: throw SwiftletError(.invalidArgument, "execute \"\(printable(arguments[0]))\" in the guest", cause: SystemError(failure))
        }
    }

    /// POSIX_SPAWN_SETSID (spawn.h), since glibc 2.26.
    private static let newSession: Int16 = 0x80

    private static func terminalPath(_ descriptor: Int32) throws(SwiftletError) -> String {
        var name = [CChar](repeating: 0, count: 128)
        guard ttyname_r(descriptor, &name, name.count) == 0 else { throw .system("find the name of a terminal") }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

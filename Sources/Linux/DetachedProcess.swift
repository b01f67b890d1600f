import CLinux
import Concurrency
import Errors
import Glibc

/// A child that does not belong to this process: it has a session of its own, no descriptors but those given to it, and lives
/// on when this process is killed.
public struct DetachedProcess: Sendable {
    public let pid: pid_t

    /// Starts the program.
    ///
    /// - Parameters:
    ///   - descriptors: what becomes the child's 0, 1, 2, … in this order; they stay the caller's.
    ///   - capabilities: the most that the child and its own children can have, by the numbers of capabilities(7), and no program that
    ///     they execute gives them more (PR_SET_NO_NEW_PRIVS); nil: what this process may have.
    ///   - environment: all of it, as "KEY=value"; nil: that of this process.
    ///   - directory: where it works; nil: where this process does.
    /// - Throws: the errno of a program that cannot be started.
    public init(
        _ executable: String, _ arguments: [String], descriptors: [Int32], capabilities: Set<Int32>? = nil, environment: [String]? = nil,
        directory: String? = nil
    ) throws {
        guard let capabilities else {
            pid = try Self.spawn(executable, arguments, descriptors, environment, directory)
            return
        }
        // Both are a thread's, which its children get: a thread of its own has nothing else to lose.
        pid = try OwnThread.runAndWait {
            try Self.restrict(to: capabilities)
            return try Self.spawn(executable, arguments, descriptors, environment, directory)
        }
    }

    private static func restrict(to capabilities: Set<Int32>) throws {
        var number: Int32 = 0
        while clinux_prctl(PR_CAPBSET_READ, UInt(number), 0, 0, 0) >= 0 {
            if !capabilities.contains(number), clinux_prctl(PR_CAPBSET_DROP, UInt(number), 0, 0, 0) != 0 {
                throw SwiftletError.system("drop capability \(number) from the bounding set")
            }
            number += 1
        }
        guard clinux_prctl(Int32(CLINUX_PR_SET_NO_NEW_PRIVS), 1, 0, 0, 0) == 0 else { throw SwiftletError.system("set no_new_privs") }
    }

    private static func spawn(
        _ executable: String, _ arguments: [String], _ descriptors: [Int32], _ environment: [String]?, _ directory: String?
    ) throws -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let directory { clinux_spawn_change_directory(&actions, directory) }
        // First out of the way, above all of them and all numbers to fill, then into place.
        let above = max(descriptors.max() ?? 0, Int32(descriptors.count)) + 1
        for (number, descriptor) in descriptors.enumerated() {
            posix_spawn_file_actions_adddup2(&actions, descriptor, above + Int32(number))
        }
        for number in descriptors.indices { posix_spawn_file_actions_adddup2(&actions, above + Int32(number), Int32(number)) }
        clinux_spawn_close_from(&actions, Int32(descriptors.count))

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSID) | Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        var argv: [UnsafeMutablePointer<CChar>?] = ([executable] + arguments).map { strdup($0) } + [nil]
        defer { argv.forEach { free($0) } }
        var variables = environment.map { $0.map { strdup($0) } + [nil] } ?? []
        defer { variables.forEach { free($0) } }
        var pid: pid_t = 0
        let failure = ForkGate.hold {
            guard environment != nil else { return posix_spawn(&pid, executable, &actions, &attributes, &argv, Glibc.environ) }
            return posix_spawn(&pid, executable, &actions, &attributes, &argv, &variables)
        }
        guard failure == 0 else { throw SwiftletError.system("start \(executable)", errno: failure) }
        return pid
    }

    /// Kills the child and waits for its end.
    public func killAndReap() {
        kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
    }
}

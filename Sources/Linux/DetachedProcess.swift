import CLinux
import Errors
import Glibc

/// A child that does not belong to this process: it has a session of its own, no descriptors but those given to it, and lives
/// on when this process is killed.
public struct DetachedProcess: Sendable {
    public let pid: pid_t

    /// Starts the program with the environment of this process.
    ///
    /// - Parameter descriptors: what becomes the child's 0, 1, 2, … in this order; they stay the caller's.
    /// - Throws: the errno of a program that cannot be started.
    public init(_ executable: String, _ arguments: [String], descriptors: [Int32]) throws {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
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
        var pid: pid_t = 0
        let failure = ForkGate.hold { posix_spawn(&pid, executable, &actions, &attributes, &argv, Glibc.environ) }
        guard failure == 0 else { throw SwiftletError.system("start \(executable)", errno: failure) }
        self.pid = pid
    }

    /// Kills the child and waits for its end.
    public func killAndReap() {
        kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
    }
}

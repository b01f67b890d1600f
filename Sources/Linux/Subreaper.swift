import CLinux
import Errors

/// A parent that reaps the daemon's orphans at once.
///
/// libvirt's embedded driver waits for QEMU's zombie before it reports a domain as destroyed. QEMU is an orphan by
/// design (it outlives the daemon), so the zombie goes to the nearest subreaper, or to PID 1, which on some machines
/// looks only every other second.
public enum Subreaper {
    /// Forks: the caller goes on as the child, the parent stays behind as its subreaper.
    ///
    /// The parent passes SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 on to the child and ends with the child's
    /// exit code, or 128 + the signal that killed it. Orphans alive at that time go to the next subreaper or to PID 1.
    /// The child gets SIGKILL should the parent die.
    ///
    /// Call it first in main, before any thread exists: fork(2) takes only the calling thread along.
    ///
    /// - Throws: the errno of prctl(2) or fork(2).
    public static func runBelow() throws(SwiftletError) {
        guard clinux_run_below_subreaper() == 0 else { throw .system("starting below a subreaper") }
    }
}

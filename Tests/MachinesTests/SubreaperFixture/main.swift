import Glibc
import Linux

// What the tests look at: an orphan of this program's ends at once, a signal sent to the parent arrives here, and the
// parent ends with this program's status.
try Subreaper.runBelow()

/// Starts /bin/sh in the background and returns its process number.
func shell(_ script: String) -> pid_t {
    var pid: pid_t = 0
    var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("sh"), strdup("-c"), strdup(script), nil]
    posix_spawn(&pid, "/bin/sh", nil, nil, &arguments, environ)
    return pid
}

var hangup = sigset_t()
sigemptyset(&hangup)
sigaddset(&hangup, SIGHUP)
sigprocmask(SIG_BLOCK, &hangup, nil)

// The shell ends and leaves its own child behind, which ends in turn when it reads the end of this program's input.
let intermediate = shell("exec 3<&0; (read line <&3; exit 0) & echo $!")
waitpid(intermediate, nil, 0)
write(1, "orphaned\n", 9)
var signal: Int32 = 0
sigwait(&hangup, &signal)
exit(signal == SIGHUP ? 42 : 1)

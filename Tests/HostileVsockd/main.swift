import Foundation
import Glibc

// Stands between the daemon and a guest's agent, in the place of swiftlet-vsockd, which it starts behind itself. What the agent sends
// passes honestly until the file HOST-SOCKET.mode names another mode (see `Mode`).

func serve(_ words: [String]) -> Int32 {
    var arguments = Array(words.dropFirst())
    guard let flag = arguments.firstIndex(of: "--host-socket"), flag + 1 < arguments.count else { return 2 }
    let hostSocket = arguments[flag + 1]
    let behind = hostSocket + ".a"
    arguments[flag + 1] = behind
    // Before the one behind writes to its ready descriptor.
    let listener = UnixSocket.listen(hostSocket)
    guard listener >= 0 else { return 3 }
    let program = URL(fileURLWithPath: words[0]).deletingLastPathComponent().appendingPathComponent("swiftlet-vsockd").path
    var child = pid_t()
    guard posix_spawn(&child, program, nil, nil, ([program] + arguments).map { strdup($0) } + [nil], environ) == 0 else { return 4 }
    close(3)
    // Threads inherit it: the signal is for the one that waits.
    var termination = sigset_t()
    sigemptyset(&termination)
    sigaddset(&termination, SIGTERM)
    pthread_sigmask(SIG_BLOCK, &termination, nil)
    Thread.detachNewThread { [child, termination] in
        var (set, number) = (termination, Int32(0))
        sigwait(&set, &number)
        kill(child, SIGTERM)
    }
    Thread.detachNewThread {
        while true {
            let client = accept(listener, nil, nil)
            guard client >= 0 else { continue }
            Thread.detachNewThread { Relay(client: client, guest: behind, modeFile: hostSocket + ".mode").run() }
        }
    }
    var status: Int32 = 0
    waitpid(child, &status, 0)
    unlink(hostSocket)
    return 0
}

exit(serve(CommandLine.arguments))

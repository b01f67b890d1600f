import AgentProtocol
import CLinux
import Errors
import Glibc
import Linux
import SwiftletVersion

/// The agent as a service of a guest that is not its own, beside whatever is process 1 there: it serves the host what such a guest has,
/// and nothing that would make the guest another's.
enum GuestService {
    private static let flag = "--service"

    static func isAsked(by arguments: [String]) -> Bool { arguments.count == 2 && arguments[1] == flag }

    /// Serves for ever.
    ///
    /// - Returns: 0 where no host can ever connect, so that nobody starts it again; 1 when serving fails.
    static func run() -> Int32 {
        let started = WallClock.sinceBoot()
        // Handled, not ignored: what is ignored stays so in the processes of exec.
        for number in [SIGPIPE, SIGHUP] { signal(number) { _ in } }
        umask(0o022)
        chdir("/")
        openStandardStreams()
        setenv("PATH", GuestProcesses.searchPath, 1)
        clinux_limit_heaps(2, 1 << 20)
        guard GuestVsock.prepare() != nil else {
            say("this guest has no vsock device, or its kernel no driver for one: the host cannot reach it by an agent")
            return 0
        }
        do throws(SwiftletError) {
            try Agent(scope: .launched, dependencies: dependencies(started: started)).listen()
        } catch {
            guard (error.cause as? SystemError)?.number == EADDRINUSE else {
                say("cannot serve the host: \(error)")
                return 1
            }
            say("another agent serves this guest")
            return 0
        }
        while true { pause() }
    }

    static func dependencies(started: UInt64) -> AgentService.Dependencies {
        let listening = WallClock.sinceBoot()
        return AgentService.Dependencies(
            makeContainer: { _, _, _ throws(SwiftletError) in throw refusal },
            startSandbox: { _ throws(SwiftletError) in throw refusal },
            setTime: { time throws(SwiftletError) in try GuestClock.correctUnlessKept(to: time) }, powerOff: {},
            info: { Guest.info(started: started, listening: listening) }, guest: GuestProcesses())
    }

    private static let refusal = SwiftletError(.unimplemented, "this guest has no containers")

    /// Descriptors 0 to 2 are the processes' own: no other file of the agent may have their numbers.
    private static func openStandardStreams() {
        while true {
            let descriptor = open("/dev/null", O_RDWR | O_CLOEXEC)
            guard (0...STDERR_FILENO).contains(descriptor) else {
                if descriptor >= 0 { close(descriptor) }
                return
            }
            _ = fcntl(descriptor, F_SETFD, 0)
        }
    }

    private static func say(_ message: String) {
        let bytes = Array("swiftlet-agent: \(message)\n".utf8)
        _ = write(STDERR_FILENO, bytes, bytes.count)
    }
}

extension AgentService {
    /// What is served of a guest that is not the agent's own; all else would make it a pod of containers, or end it behind the back of its
    /// own process 1.
    static let methodsOfGuests: Set<AgentMethodName> = [
        .getInfo, .exec, .signal, .wait, .deleteProcess, .list, .openStream, .openPort, .resizeTerminal, .getStats, .setTime,
    ]
}

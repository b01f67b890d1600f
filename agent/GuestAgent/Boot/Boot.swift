import Errors
import Glibc

/// The agent as a guest's PID 1: from the kernel's hand-over to serving the host, for ever.
public enum Boot {
    /// Never returns: without PID 1 the kernel panics. Anywhere else it says its version and ends.
    public static func run() -> Never {
        guard getpid() == 1 else {
            print(Agent.version)
            exit(0)
        }
        let started = Clock.sinceBoot
        let console = Console()
        // Handled, not ignored: what is ignored stays so in the processes of containers.
        signal(SIGPIPE) { _ in }
        do {
            let modules = KernelModules(directory: "/lib/modules")
            let booted = try Latch()
            modules.load("first", console)
            let guest = Guest(started: started, booted: booted)
            let agent = try Agent(scope: .everything, surroundings: guest.surroundings)
            try agent.listen()
            guest.isListening()
            console.debug("started at \(started / 1000) us after boot, listening at \(Clock.sinceBoot / 1000) us")
            GuestTree.mount(console)
            modules.load("rest", console)
            modules.remove()
            booted.open()
            console.debug("ready at \(Clock.sinceBoot / 1000) us after boot")
        } catch {
            console.write("cannot serve the host: \(error)")
        }
        while true { pause() }
    }
}

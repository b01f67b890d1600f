import AgentProtocol
import CLinux
import Errors
import Glibc
import Linux
import SwiftletVersion

/// The agent as a guest's PID 1: from the kernel's hand-over to serving the host, for ever.
public enum Boot {
    /// Milliseconds that the modules which nothing waits for are put off.
    private static let restDelay: Int32 = 3000

    /// Never returns: without PID 1 the kernel panics. As a container's command of a guest that is being prepared it ends at once, as PID 1 of
    /// the container's namespace too. Anywhere else it loads the module that the kernel asks for, says its version, or
    /// writes what the guest's image should hold beside it, and ends; or it serves a guest that is not its own (``GuestService``).
    public static func run() -> Never {
        if CommandLine.arguments == AgentContract.trial { exit(0) }
        guard getpid() == 1 else {
            let arguments = CommandLine.arguments
            if ModuleRequest.isAsked(by: arguments) { exit(ModuleRequest.serve(arguments[3])) }
            if GuestService.isAsked(by: arguments) { exit(GuestService.run()) }
            guard arguments.last == "--default-seccomp" else {
                print(swiftletVersion)
                exit(0)
            }
            let words = (try? PrecompiledProfile.words()) ?? []
            exit(words.withUnsafeBytes { !words.isEmpty && write(STDOUT_FILENO, $0.baseAddress, $0.count) == $0.count } ? 0 : 1)
        }
        let started = WallClock.sinceBoot()
        let console = Console()
        // Handled, not ignored: what is ignored stays so in the processes of containers.
        signal(SIGPIPE) { _ in }
        raiseFileLimit()
        // Output passes through a few blocks of 64 KiB, for each of which glibc's heap would shrink, and fault its pages in again.
        clinux_limit_heaps(2, 1 << 20)
        keepInMemory()
        Priority.beforeContainers.apply()
        do {
            let modules = KernelModules(directory: "/lib/modules")
            let (booted, storage, volumes, rest) = (try Latch(), try Latch(), try ModulesOnDemand(), try ModulesOnDemand())
            let guest = Guest(
                started: started, booted: booted, storage: storage, volumes: volumes, rest: rest,
                demanded: DemandedModules(console: console))
            let agent = try Agent(scope: .everything, dependencies: guest.dependencies)
            try agent.listen()
            guest.isListening()
            console.debug("started at \(started / 1000) us after boot, listening at \(WallClock.sinceBoot() / 1000) us")
            PrecompiledProfile.adopt()
            GuestTree.mount(console)
            modules.load(.network, console)
            modules.load(.disks, console)
            // The kernel reads the disks' sizes and partitions while the sandbox starts.
            ScsiDisks.scan()
            booted.open()
            modules.load(.layers, console)
            storage.open()
            modules.load(.growth, console)
            // Loading a module holds the CPU, whatever its priority: the first container comes first, and waits only for those that
            // it asks for.
            let areWanted = volumes.waitUntilWanted(milliseconds: restDelay)
            modules.load(.volumes, console)
            volumes.areLoaded()
            if areWanted { _ = rest.waitUntilWanted(milliseconds: restDelay) }
            Priority.behindContainers.apply()
            modules.load(.rest, console)
            modules.close()
            rest.areLoaded()
            console.debug("ready at \(WallClock.sinceBoot() / 1000) us after boot, \(availableMemory()) available")
        } catch {
            console.write("cannot serve the host: \(error)")
        }
        while true { pause() }
    }

    /// As the kernel says it, "409088 kB".
    private static func availableMemory() -> Substring {
        let lines = (Files.text("/proc/meminfo") ?? "").split(separator: "\n")
        return lines.first { $0.hasPrefix("MemAvailable:") }?.drop { !$0.isNumber } ?? "nobody knows how much"
    }

    /// The agent's file is on a disk, and pages of it come in as they are used. Those that are there stay: a guest whose containers use up
    /// its memory would read the agent again and again.
    private static func keepInMemory() { mlockall(MCL_CURRENT | Int32(MCL_ONFAULT)) }

    /// The kernel starts with 1024 descriptors, too few for the streams of a thousand processes. Containers without a limit of
    /// their own inherit this one, the kernel's highest (fs.nr_open), which is also what containerd's service gives.
    private static func raiseFileLimit() {
        var files = rlimit(rlim_cur: 1 << 20, rlim_max: 1 << 20)
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files)
    }
}

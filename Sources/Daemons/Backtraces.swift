import Glibc

/// What Swift's runtime prints when the daemon crashes.
public enum Backtraces {
    /// Without registers, which are printed with the memory that they point to: that of tenants, perhaps. Names only for what is
    /// found at once: the daemon is to be started again soon.
    private static let settings = "registers=none,images=none,symbolicate=fast,color=no,interactive=no"

    /// Starts the program anew with these settings, which the runtime reads before anything else; does nothing when somebody has
    /// made settings.
    public static func printNoMemory() {
        guard getenv("SWIFT_BACKTRACE") == nil, setenv("SWIFT_BACKTRACE", settings, 1) == 0 else { return }
        // By its name, which the kernel shows for the process.
        guard let path = realpath("/proc/self/exe", nil) else { return }
        // Returns only when it fails: then the daemon runs without them.
        execv(path, CommandLine.unsafeArgv)
        free(path)
    }
}

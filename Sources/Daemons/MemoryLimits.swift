import CLinux

/// Keeps the daemon's memory near what it uses: it runs for months beside tenants who pay for the node's.
public enum MemoryLimits {
    /// Two heaps instead of eight for each CPU (mallopt(3)), and what is free in them goes back to the kernel now and then.
    public static func apply() {
        clinux_limit_heaps(2, 256 << 10)
        Task.detached(priority: .background) {
            while true {
                try await Task.sleep(for: .seconds(10))
                clinux_trim_heaps()
            }
        }
    }

    /// Unmaps the code that only the start needed: half of what the program and its 120 libraries take.
    public static func forgetStart() {
        clinux_forget_code()
    }
}

/// The Linux command line of a guest.
///
/// Names and meanings are those of the kernel's Documentation/admin-guide/kernel-parameters.txt. `AgentContract` and the
/// pod add their own behind these.
public enum GuestKernelArguments {
    /// What every guest gets.
    public static let standard: [String] = console + end + entropy + devices + startup + accounting

    /// The console is for panics only: each character costs the emulator or KVM an exit.
    static let console = ["console=ttyS0", "quiet", "loglevel=1", "8250.nr_uarts=1"]

    /// A guest that cannot go on ends at once, and a domain that reboots is a domain that ends.
    static let end = ["panic=-1", "reboot=t"]

    /// The host's word for randomness is good enough to begin with; virtio-rng follows.
    static let entropy = ["random.trust_cpu=on", "random.trust_bootloader=on"]

    /// For machines whose memory may grow: Linux sees addresses above 4 GiB and would set 64 MiB aside to bounce through for
    /// devices that cannot reach them. A machine has none of these.
    public static let growing = ["swiotlb=512,noforce"]

    /// Hardware the machine does not have is not looked for.
    static let devices = ["i8042.noaux", "i8042.nokbd", "i8042.nopnp", "pci=noaer"]

    /// Boot-time work that finds out what is known: the time source, single-processor code, the crypto self-tests (0.9 of
    /// the 4.2 seconds of CPU that Debian's 6.1 cloud kernel needs to reach init under emulation).
    static let startup = ["tsc=reliable", "no_timer_check", "noreplace-smp", "cryptomgr.notests", "rcupdate.rcu_expedited=1"]

    /// For emulated machines: Debian's kernels clear every page and block before they hand it out, so that what was in it cannot leak. A
    /// process's own pages are clear without that. The emulator takes a quarter of a boot's system time for it, and of each byte's that
    /// leaves the guest a sixth.
    public static let emulated = ["init_on_alloc=0"]

    /// For emulated machines, whose time stamp counter is the node's: a guest that measures it itself while the node is busy may find
    /// another rate, and its clocks run many times too fast then. What it refines later may differ by no more than one per cent.
    public static func clock(timeStampCounterKHz rate: UInt32) -> [String] { ["tsc_early_khz=\(rate)"] }

    /// Debian's kernels count what tasks wait for (pressure stall information) only when asked to.
    static let accounting = ["psi=1"]
}

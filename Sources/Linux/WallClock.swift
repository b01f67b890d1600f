import Glibc

/// CLOCK_REALTIME and CLOCK_BOOTTIME in nanoseconds (clock_gettime(2)).
public enum WallClock {
    /// Unix time: the CRI's unit.
    public static func now() -> Int64 { read(CLOCK_REALTIME) }

    /// Since the machine booted, sleep included.
    public static func sinceBoot() -> UInt64 { UInt64(max(0, read(CLOCK_BOOTTIME))) }

    private static func read(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}

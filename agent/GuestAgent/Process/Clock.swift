import Glibc

/// The guest's clocks in nanoseconds.
enum Clock {
    /// Unix time.
    static var realtime: Int64 { read(CLOCK_REALTIME) }

    /// Since the guest booted.
    static var sinceBoot: UInt64 { UInt64(read(CLOCK_BOOTTIME)) }

    private static func read(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}

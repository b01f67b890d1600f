import CLinux
import Glibc

/// The time stamp counter of the machine's processors.
public enum TimeStampCounter {
    /// Measures its rate, for the given time. Blocks.
    ///
    /// - Returns: kHz; nil for a processor without one.
    public static func measureRate(milliseconds: UInt32 = 50) -> UInt32? {
        var (start, end) = (clinux_tsc_sample(), clinux_tsc_sample())
        guard clinux_sample_tsc(&start) == 0 else { return nil }
        usleep(milliseconds * 1000)
        guard clinux_sample_tsc(&end) == 0, end.nanoseconds > start.nanoseconds, end.ticks > start.ticks else { return nil }
        let rate = Double(end.ticks - start.ticks) / Double(end.nanoseconds - start.nanoseconds) * 1_000_000
        return UInt32(exactly: rate.rounded())
    }
}

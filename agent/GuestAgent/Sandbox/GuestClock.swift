import CContainer
import Errors
import Glibc
import Linux

/// The guest's wall clock, kept at the host's: emulated guests lose time when the host is busy, and paused ones do not count at all.
enum GuestClock {
    enum Correction: Equatable {
        /// Gradually, so that time never goes back: by so many nanoseconds, 0.5 ms a second at most (adjtime(3)).
        case slew(Int64)
        /// At once.
        case step
    }

    /// What ntpd steps by at least (ntp.conf(5), tinker step).
    private static let leastStep: Int64 = 128_000_000
    /// How long the host's time may be on its way. A clock that is ahead of it by less may be right.
    private static let longestWay: Int64 = 2_000_000_000

    /// - Parameters:
    ///   - now: the guest's time, in Unix nanoseconds.
    ///   - host: the host's, when it sent it: it is not earlier than that.
    static func correction(now: Int64, host: Int64) -> Correction {
        let (difference, overflow) = host.subtractingReportingOverflow(now)
        guard !overflow, difference < leastStep, difference > -longestWay else { return .step }
        return .slew(difference)
    }

    /// Corrects the clock to the host's time.
    ///
    /// - Throws: `.invalidArgument` for a time before 1970.
    static func correct(to time: Int64) throws(SwiftletError) {
        guard time > 0 else { throw SwiftletError(.invalidArgument, "the time \(time) lies before 1970") }
        guard case .slew(let difference) = correction(now: WallClock.now(), host: time) else { return try set(time) }
        // Takes the place of a correction that is still under way.
        var delta = timeval(tv_sec: 0, tv_usec: 0)
        delta.tv_sec = Int(difference / 1_000_000_000)
        delta.tv_usec = suseconds_t(difference % 1_000_000_000 / 1000)
        guard adjtime(&delta, nil) == 0 else { throw .system("adjusting the clock") }
    }

    /// By how much a clock that the guest keeps may differ before it is set all the same, as after a pause of the machine.
    private static let mostOfKept: Int64 = 2_000_000_000

    /// Corrects the clock of a guest that may keep it by itself (chronyd, systemd-timesyncd): there only where it is far off, since two who
    /// correct it would work against each other.
    ///
    /// - Throws: as ``correct(to:)``.
    static func correctUnlessKept(to time: Int64) throws(SwiftletError) {
        let (difference, overflow) = time.subtractingReportingOverflow(WallClock.now())
        if cc_clock_is_kept(), !overflow, difference.magnitude < mostOfKept { return }
        try correct(to: time)
    }

    /// Sets the clock.
    ///
    /// - Parameter time: Unix time in nanoseconds.
    static func set(_ time: Int64) throws(SwiftletError) {
        guard time > 0 else { throw SwiftletError(.invalidArgument, "the time \(time) lies before 1970") }
        var value = timespec(tv_sec: Int(time / 1_000_000_000), tv_nsec: Int(time % 1_000_000_000))
        guard clock_settime(CLOCK_REALTIME, &value) == 0 else { throw .system("setting the clock") }
    }
}

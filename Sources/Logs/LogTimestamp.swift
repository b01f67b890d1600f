import Glibc

/// Formats wall-clock times as RFC 3339 with nine digits, in UTC: `2026-01-02T03:04:05.000000006Z`.
struct LogTimestamp {
    private var cachedSecond = -1
    private var text = [UInt8](repeating: 0, count: 30)

    /// The present time. Only the fraction is formatted anew while the second stays the same.
    mutating func now() -> [UInt8] {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return format(seconds: time.tv_sec, nanoseconds: time.tv_nsec)
    }

    mutating func format(seconds: Int, nanoseconds: Int) -> [UInt8] {
        if seconds != cachedSecond {
            var second = time_t(seconds)
            var parts = tm()
            gmtime_r(&second, &parts)
            put(Int(parts.tm_year) + 1900, at: 0, width: 4)
            put(Int(parts.tm_mon) + 1, at: 5, width: 2)
            put(Int(parts.tm_mday), at: 8, width: 2)
            put(Int(parts.tm_hour), at: 11, width: 2)
            put(Int(parts.tm_min), at: 14, width: 2)
            put(Int(parts.tm_sec), at: 17, width: 2)
            for (index, character) in [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":"), (19, "."), (29, "Z")] {
                text[index] = character.utf8[character.utf8.startIndex]
            }
            cachedSecond = seconds
        }
        put(nanoseconds, at: 20, width: 9)
        return text
    }

    private mutating func put(_ value: Int, at index: Int, width: Int) {
        var value = value
        for position in stride(from: index + width - 1, through: index, by: -1) {
            text[position] = UInt8(ascii: "0") + UInt8(value % 10)
            value /= 10
        }
    }
}

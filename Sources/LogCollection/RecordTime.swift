import Glibc

/// The time of a record that no log has: RFC 3339 in UTC with nine digits, as the logs' lines have it.
struct RecordTime {
    private var cached: (second: Int, text: String)?

    mutating func now() -> String {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        let fraction = String(time.tv_nsec)
        return "\(text(of: time.tv_sec)).\(String(repeating: "0", count: 9 - fraction.count))\(fraction)Z"
    }

    private mutating func text(of second: Int) -> String {
        if let cached, cached.second == second { return cached.text }
        var (time, parts) = (time_t(second), tm())
        gmtime_r(&time, &parts)
        var buffer = [CChar](repeating: 0, count: 32)
        let length = strftime(&buffer, buffer.count, "%Y-%m-%dT%H:%M:%S", &parts)
        let text = String(decoding: buffer.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        cached = (second, text)
        return text
    }

    /// Nanoseconds since 1970 of such a time; nil for what is none, or has no room in 64 bits (from 2554 on).
    static func nanoseconds(_ text: String) -> UInt64? {
        let digits = Array(text.utf8)
        guard digits.count == 30, digits[10] == UInt8(ascii: "T"), digits[29] == UInt8(ascii: "Z") else { return nil }
        func number(_ range: Range<Int>) -> Int64? { Int64(String(decoding: digits[range], as: UTF8.self)) }
        guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10), let hour = number(11..<13),
            let minute = number(14..<16), let second = number(17..<19), let fraction = number(20..<29).flatMap({ UInt64(exactly: $0) }),
            (1...12).contains(month)
        else { return nil }
        var parts = tm()
        (parts.tm_year, parts.tm_mon, parts.tm_mday) = (Int32(year - 1900), Int32(month - 1), Int32(day))
        (parts.tm_hour, parts.tm_min, parts.tm_sec) = (Int32(hour), Int32(minute), Int32(second))
        guard let seconds = UInt64(exactly: timegm(&parts)) else { return nil }
        let (product, isTooLate) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, overflows) = product.addingReportingOverflow(fraction)
        return isTooLate || overflows ? nil : sum
    }
}

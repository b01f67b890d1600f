import Glibc

/// A moment of the wall clock, to the nanosecond.
struct LogTime: Comparable, Sendable {
    /// Since 1970, without leap seconds.
    let seconds: Int64
    /// 0 to 999,999,999.
    let nanoseconds: Int64

    init(seconds: Int64, nanoseconds: Int64) {
        (self.seconds, self.nanoseconds) = (seconds, nanoseconds)
    }

    /// The present.
    static var now: LogTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return LogTime(seconds: Int64(time.tv_sec), nanoseconds: Int64(time.tv_nsec))
    }

    static func < (left: LogTime, right: LogTime) -> Bool {
        (left.seconds, left.nanoseconds) < (right.seconds, right.nanoseconds)
    }

    static func - (time: LogTime, duration: Duration) -> LogTime {
        let (seconds, attoseconds) = duration.components
        let nanoseconds = time.nanoseconds - attoseconds / 1_000_000_000
        let borrow: Int64 = nanoseconds < 0 ? 1 : 0
        return LogTime(seconds: time.seconds - seconds - borrow, nanoseconds: nanoseconds + borrow * 1_000_000_000)
    }

    /// Reads RFC 3339: `2026-01-02T03:04:05Z`, with a fraction of any length, of which nine digits count, and with an offset.
    ///
    /// - Returns: nil for any other text, and for a day or a time that there is not.
    init?(_ text: some Sequence<UInt8>) {
        var digits = Digits(text.makeIterator())
        guard let year = digits.number(4), digits.skip("-"), let month = digits.number(2), digits.skip("-"), let day = digits.number(2),
            digits.skip("Tt"), let hour = digits.number(2), digits.skip(":"), let minute = digits.number(2), digits.skip(":"),
            let second = digits.number(2)
        else { return nil }
        guard (1...12).contains(month), (1...Self.days(month, of: year)).contains(day), hour < 24, minute < 60, second < 61 else {
            return nil
        }
        var fraction: Int64 = 0
        if digits.skip(".") {
            guard let read = digits.fraction() else { return nil }
            fraction = read
        }
        var offset: Int64 = 0
        if !digits.skip("Zz") {
            let isWest = digits.skip("-")
            guard isWest || digits.skip("+"), let hours = digits.number(2), digits.skip(":"), let minutes = digits.number(2), hours < 24,
                minutes < 60
            else { return nil }
            offset = (hours * 60 + minutes) * (isWest ? -60 : 60)
        }
        guard digits.isAtEnd else { return nil }
        seconds = Self.day(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset
        nanoseconds = fraction
    }

    private static func days(_ month: Int64, of year: Int64) -> Int64 {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    /// Days since 1970-01-01 in the Gregorian calendar. Years begin with March here, so that a leap day is a year's last.
    private static func day(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
        let year = month <= 2 ? year - 1 : year
        let era = (year >= 0 ? year : year - 399) / 400
        let yearOfEra = year - era * 400
        let dayOfYear = (153 * ((month + 9) % 12) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    private struct Digits<Bytes: IteratorProtocol> where Bytes.Element == UInt8 {
        private var rest: Bytes
        private var next: UInt8?

        init(_ bytes: Bytes) {
            rest = bytes
            next = rest.next()
        }

        var isAtEnd: Bool { next == nil }

        private mutating func digit() -> Int64? {
            guard let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            next = rest.next()
            return Int64(byte - UInt8(ascii: "0"))
        }

        mutating func number(_ count: Int) -> Int64? {
            var value: Int64 = 0
            for _ in 0..<count {
                guard let digit = digit() else { return nil }
                value = value * 10 + digit
            }
            return value
        }

        mutating func fraction() -> Int64? {
            guard var value = digit() else { return nil }
            var count = 1
            while let digit = digit() {
                if count < 9 { value = value * 10 + digit }
                count += 1
            }
            for _ in count..<max(count, 9) { value *= 10 }
            return value
        }

        mutating func skip(_ choices: StaticString) -> Bool {
            guard let byte = next, choices.description.utf8.contains(byte) else { return false }
            next = rest.next()
            return true
        }
    }
}

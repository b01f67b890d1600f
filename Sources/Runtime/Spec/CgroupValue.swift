/// A number of bytes as the kernel reads it from a file of cgroup v2: page_counter_memparse() and memparse() of Linux.
package struct CgroupSize: Equatable {
    /// Nil for "max", no limit.
    package var bytes: UInt64?

    /// "67108864", "64M", "0x4000000", "max": decimal, hexadecimal after 0x or octal after 0, times 1024 for k or K, and so on
    /// through m, g, t, p and e. Nil for anything else, and for more than 64 bits, of which the kernel keeps the lower ones.
    package init?(_ text: String) {
        let words = text.utf8.split(separator: UInt8(ascii: " "))
        guard words.count == 1, var digits = words.first.map(Array.init) else { return nil }
        guard digits != Array("max".utf8) else { return }
        let isHexadecimal = digits.count > 1 && digits[0] == UInt8(ascii: "0") && Self.lowercase(digits[1]) == UInt8(ascii: "x")
        if isHexadecimal { digits.removeFirst(2) }
        var shift: UInt64 = 0
        // "e" is a digit of a hexadecimal number.
        if let power = digits.last.flatMap({ Self.suffixes.firstIndex(of: Self.lowercase($0)) }), !isHexadecimal || power < 5 {
            shift = UInt64(power + 1) * 10
            digits.removeLast()
        }
        // UInt64's initializer takes a sign, the kernel none.
        guard let first = digits.first, first != UInt8(ascii: "+"), first != UInt8(ascii: "-") else { return nil }
        let radix = isHexadecimal ? 16 : first == UInt8(ascii: "0") ? 8 : 10
        guard let number = UInt64(String(decoding: digits, as: UTF8.self), radix: radix), number <= .max >> shift else { return nil }
        bytes = number << shift
    }

    private static let suffixes = Array("kmgtpe".utf8)

    private static func lowercase(_ byte: UInt8) -> UInt8 { byte | 0x20 }
}

/// CPU time in each period, as cpu.max of cgroup v2 has it: "50000 100000", "max".
package struct CPUBandwidth: Equatable {
    /// Microseconds; nil for no limit.
    package var quota: UInt64?
    /// Microseconds, not 0.
    package var period: UInt64

    /// - Parameters:
    ///   - quota: 0 and -1: no limit.
    ///   - period: 0: the default.
    package init(quota: Int64, period: Int64) {
        self.quota = quota > 0 ? UInt64(quota) : nil
        self.period = UInt64(period > 0 ? period : LinuxResources.defaultPeriod)
    }

    /// Nil for what the kernel refuses.
    package init?(_ text: String) {
        let words = text.split(whereSeparator: \.isWhitespace)
        guard let first = words.first, words.count <= 2 else { return nil }
        if first != "max" {
            // At least a millisecond, as for the period: min_cfs_quota_period of kernel/sched/core.c.
            guard let quota = UInt64(first), (1000..<(1 << 44)).contains(quota) else { return nil }
            self.quota = quota
        }
        guard words.count == 2 else {
            period = UInt64(LinuxResources.defaultPeriod)
            return
        }
        guard let period = UInt64(words[1]), (1000...1_000_000).contains(period) else { return nil }
        self.period = period
    }
}

import FoundationEssentials

/// Figures as people read and write them.
enum Units {
    /// "873B", "5.27MB": powers of 1000, three digits.
    static func size(_ bytes: UInt64) -> String {
        var value = Double(bytes)
        for unit in ["B", "kB", "MB", "GB", "TB"] {
            if value < 999.5 || unit == "TB" { return unit == "B" ? "\(bytes)B" : threeDigits(value) + unit }
            value /= 1000
        }
        return "\(bytes)B"
    }

    private static func threeDigits(_ value: Double) -> String {
        if value >= 99.95 { return "\(Int(value.rounded()))" }
        let factor: Double = value >= 9.995 ? 10 : 100
        return "\((value * factor).rounded() / factor)".replacingSuffix(".0", with: "")
    }

    /// Bytes of "512m", "1.5g", "1Gi", "1048576": powers of 1024, as for docker's --memory.
    static func bytes(_ text: String) -> Int64? {
        let lower = text.lowercased()
        let number = lower.prefix { $0.isNumber || $0 == "." }
        let exponent: Double
        switch lower.dropFirst(number.count) {
        case "", "b": exponent = 0
        case "k", "kb", "ki", "kib": exponent = 1
        case "m", "mb", "mi", "mib": exponent = 2
        case "g", "gb", "gi", "gib": exponent = 3
        case "t", "tb", "ti", "tib": exponent = 4
        default: return nil
        }
        guard var value = Double(number) else { return nil }
        for _ in 0..<Int(exponent) { value *= 1024 }
        return value >= 1 && value < 9e18 ? Int64(value) : nil
    }

    /// "40 seconds ago". Both times are Unix times in nanoseconds; the future counts as now.
    static func age(of time: Int64, now: Int64) -> String {
        guard time > 0 else { return "" }
        let seconds = max(0, (now - time) / 1_000_000_000)
        let steps: [(limit: Int64, divisor: Int64, unit: String)] = [
            (60, 1, "second"), (3600, 60, "minute"), (86400, 3600, "hour"), (86400 * 14, 86400, "day"),
            (86400 * 90, 86400 * 7, "week"), (86400 * 730, 86400 * 30, "month"),
        ]
        let step = steps.first { seconds < $0.limit } ?? (.max, 86400 * 365, "year")
        let count = seconds / step.divisor
        return "\(count) \(step.unit)\(count == 1 ? "" : "s") ago"
    }

    /// Unix time now, in nanoseconds.
    static func now() -> Int64 { Int64(Date().timeIntervalSince1970 * 1e9) }

    /// "2026-01-31T12:00:00Z"; nil for 0, which stands for a time that has not come.
    static func timestamp(_ nanoseconds: Int64) -> String? {
        nanoseconds == 0 ? nil : Date(timeIntervalSince1970: Double(nanoseconds) / 1e9).formatted(.iso8601)
    }

    /// "3.2 s".
    static func seconds(_ duration: Duration) -> String {
        let tenths = (duration / .milliseconds(100)).rounded()
        return "\(tenths / 10)".replacingSuffix(".0", with: "") + " s"
    }

    /// The start of an id that is enough to name it.
    static func short(_ id: String) -> String {
        let bare = id.hasPrefix("sha256:") ? id.dropFirst(7) : id[...]
        return String(bare.prefix(13))
    }
}

extension String {
    fileprivate func replacingSuffix(_ suffix: String, with replacement: String) -> String {
        hasSuffix(suffix) ? dropLast(suffix.count) + replacement : self
    }
}

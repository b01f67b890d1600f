/// Durations as containerd's configuration has them: Go's `5m0s`, `1h30m`, `1.5s`, `500ms` (https://pkg.go.dev/time#ParseDuration),
/// without a sign and without micro- and nanoseconds.
enum DurationText {
    /// Seconds; nil for what is no duration.
    static func seconds(_ text: String) -> Double? {
        var rest = text[...]
        var sum = 0.0
        while let part = rest.prefixMatch(of: /([0-9]{1,15}(?:\.[0-9]{1,9})?)(ms|h|m|s)/) {
            guard let number = Double(part.1), let unit = units[part.2] else { return nil }
            sum += number * unit
            rest = rest[part.range.upperBound...]
        }
        return rest.isEmpty && !text.isEmpty ? sum : nil
    }

    private static let units: [Substring: Double] = ["h": 3600, "m": 60, "s": 1, "ms": 0.001]
}

/// Kubernetes' quantities, as far as bytes go: a decimal number with a binary or decimal suffix, or an exponent.
enum Quantity {
    private static let units: [(suffix: String, power: (base: UInt64, exponent: Int))] = [
        ("Ki", (1024, 1)), ("Mi", (1024, 2)), ("Gi", (1024, 3)), ("Ti", (1024, 4)), ("Pi", (1024, 5)), ("Ei", (1024, 6)),
        ("k", (1000, 1)), ("M", (1000, 2)), ("G", (1000, 3)), ("T", (1000, 4)), ("P", (1000, 5)), ("E", (1000, 6)),
    ]

    /// Whole bytes, a fraction rounded up; nil for what is no quantity, is negative, or does not fit.
    static func bytes(_ text: String) -> UInt64? {
        guard text.utf8.count <= 40 else { return nil }
        var digits = Substring(text)
        var factor: UInt64 = 1
        if let unit = units.first(where: { text.hasSuffix($0.suffix) }) {
            digits = digits.dropLast(unit.suffix.count)
            for _ in 0..<unit.power.exponent { factor *= unit.power.base }
        } else if let mark = text.firstIndex(where: { $0 == "e" || $0 == "E" }) {
            digits = digits[..<mark]
            guard let exponent = UInt8(text[text.index(after: mark)...]), exponent <= 18 else { return nil }
            for _ in 0..<exponent { factor *= 10 }
        }
        let parts = digits.split(separator: ".", omittingEmptySubsequences: false)
        let isDigit = { (byte: UInt8) in (0x30...0x39).contains(byte) }
        guard parts.count <= 2, parts.contains(where: { !$0.isEmpty }), parts.allSatisfy({ $0.utf8.allSatisfy(isDigit) }) else {
            return nil
        }
        guard let whole = parts[0].isEmpty ? 0 : UInt64(parts[0]) else { return nil }
        let (bytes, overflow) = whole.multipliedReportingOverflow(by: factor)
        guard !overflow else { return nil }
        guard parts.count == 2, !parts[1].isEmpty else { return bytes }
        // Nine decimals are a nano, the least that Kubernetes keeps.
        guard parts[1].utf8.count <= 9, let fraction = UInt64(parts[1]) else { return nil }
        let scale = (0..<parts[1].utf8.count).reduce(UInt64(1)) { scale, _ in scale * 10 }
        let product = factor.multipliedFullWidth(by: fraction)
        let (quotient, remainder) = scale.dividingFullWidth((product.high, product.low))
        let (sum, tooLarge) = bytes.addingReportingOverflow(quotient + (remainder > 0 ? 1 : 0))
        return tooLarge ? nil : sum
    }

    /// In the largest binary unit that leaves no remainder.
    static func text(_ bytes: UInt64) -> String {
        let binary = units.prefix(6).reversed()
        for unit in binary {
            let size = UInt64(1) << (10 * unit.power.exponent)
            if bytes >= size, bytes % size == 0 { return "\(bytes / size)\(unit.suffix)" }
        }
        return "\(bytes)"
    }
}

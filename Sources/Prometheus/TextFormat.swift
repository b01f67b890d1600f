/// Prometheus' text-based exposition format 0.0.4
/// (https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md).
enum TextFormat {
    static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    static func family(_ name: String, _ type: String, help: String?, _ children: [(labels: [Label], samples: [Sample])]) -> String {
        var text = ""
        if let help { text += "# HELP \(name) \(escaped(help, quotes: false))\n" }
        text += "# TYPE \(name) \(type)\n"
        for (labels, samples) in children {
            for sample in samples {
                let all = labels + (sample.label.map { [$0] } ?? [])
                let inside = all.map { "\($0.name)=\"\(escaped($0.value, quotes: true))\"" }.joined(separator: ",")
                text += "\(name)\(sample.suffix)\(inside.isEmpty ? "" : "{\(inside)}") \(sample.value)\n"
            }
        }
        return text
    }

    /// As Go's ParseFloat reads it.
    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        guard value == value.rounded(), abs(value) < 1e15 else { return "\(value)" }
        return "\(Int64(value))"
    }

    /// A name with everything replaced that the format forbids: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    static func name(_ text: String, colons: Bool) -> String {
        let clean = text.unicodeScalars.map { scalar -> Character in
            switch scalar {
            case "a"..."z", "A"..."Z", "0"..."9", "_": Character(scalar)
            case ":" where colons: ":"
            default: "_"
            }
        }
        return (clean.first?.isNumber ?? true ? "_" : "") + String(clean)
    }

    private static func escaped(_ text: String, quotes: Bool) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quotes: result += "\\\""
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}

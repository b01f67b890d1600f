import Errors

/// Prometheus' text format 0.0.4, read by its grammar: every line must be one of it.
public struct Exposition: Sendable {
    public struct Sample: Sendable, Equatable {
        public var name: String
        public var labels: [String: String]
        public var value: Double

        public init(name: String, labels: [String: String], value: Double) {
            self.name = name
            self.labels = labels
            self.value = value
        }
    }

    /// By the name of the family.
    public private(set) var types: [String: String] = [:]
    public private(set) var help: [String: String] = [:]
    public private(set) var samples: [Sample] = []

    /// - Throws: `.dataLoss` naming the first line that is none of the format's, or breaks its rules: each family has one TYPE
    ///   before its samples, a histogram's buckets grow up to +Inf, which is its count.
    public init(_ text: String) throws {
        guard text.isEmpty || text.hasSuffix("\n") else { throw Self.broken(text, "the last line does not end") }
        for line in text.split(separator: "\n") { try read(String(line)) }
        for (name, type) in types where type == "histogram" { try checkHistogram(name) }
    }

    private mutating func read(_ line: String) throws {
        if let match = line.wholeMatch(of: /# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)/) {
            guard help.updateValue(String(match.2), forKey: String(match.1)) == nil else { throw Self.broken(line, "a second HELP") }
        } else if let match = line.wholeMatch(of: /# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram|summary|untyped)/) {
            guard types.updateValue(String(match.2), forKey: String(match.1)) == nil else { throw Self.broken(line, "a second TYPE") }
        } else if let match = line.wholeMatch(of: /([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? (\S+)/) {
            guard let value = Self.number(String(match.3)) else { throw Self.broken(line, "no number") }
            let sample = Sample(name: String(match.1), labels: try Self.labels(match.2.map(String.init) ?? "{}", line), value: value)
            guard type(of: sample) != nil else { throw Self.broken(line, "no TYPE") }
            guard !samples.contains(where: { $0.name == sample.name && $0.labels == sample.labels }) else {
                throw Self.broken(line, "a second value")
            }
            samples.append(sample)
        } else {
            throw Self.broken(line, "neither HELP nor TYPE nor a sample")
        }
    }

    private func type(of sample: Sample) -> String? {
        if let type = types[sample.name] { return type == "histogram" ? nil : type }
        for suffix in ["_bucket", "_sum", "_count"] where sample.name.hasSuffix(suffix) {
            let family = String(sample.name.dropLast(suffix.count))
            if types[family] == "histogram", (suffix == "_bucket") == (sample.labels["le"] != nil) { return "histogram" }
        }
        return nil
    }

    private func checkHistogram(_ name: String) throws {
        let buckets = samples.filter { $0.name == name + "_bucket" }
        let counts = samples.filter { $0.name == name + "_count" }
        guard !counts.isEmpty, samples.filter({ $0.name == name + "_sum" }).count == counts.count else {
            throw Self.broken(name, "sum and count do not go together")
        }
        for count in counts {
            let own = buckets.filter { bucket in bucket.labels.filter { $0.key != "le" } == count.labels }
            let bounds = own.map { $0.labels["le"].flatMap(Self.number) ?? .nan }
            guard bounds.last == .infinity, own.last?.value == count.value, zip(bounds, bounds.dropFirst()).allSatisfy(<),
                zip(own, own.dropFirst()).allSatisfy({ $0.value <= $1.value })
            else { throw Self.broken(name, "buckets that do not grow up to +Inf, the count") }
        }
    }

    private static func number(_ text: String) -> Double? {
        switch text {
        case "+Inf": .infinity
        case "-Inf": -.infinity
        case "NaN": .nan
        default: Double(text)
        }
    }

    private static func labels(_ text: String, _ line: String) throws -> [String: String] {
        var labels: [String: String] = [:]
        var rest = text.dropFirst().dropLast()
        while !rest.isEmpty {
            guard let match = rest.prefixMatch(of: /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\\\|\\"|\\n)*)"(,|$)/) else {
                throw broken(line, "no labels")
            }
            guard labels.updateValue(unescaped(match.2), forKey: String(match.1)) == nil else { throw broken(line, "a label twice") }
            rest = rest[match.range.upperBound...]
        }
        return labels
    }

    private static func unescaped(_ text: Substring) -> String {
        var (result, isEscaped) = ("", false)
        for character in text {
            if isEscaped {
                result.append(character == "n" ? "\n" : character)
                isEscaped = false
            } else if character == "\\" {
                isEscaped = true
            } else {
                result.append(character)
            }
        }
        return result
    }

    private static func broken(_ line: String, _ what: String) -> SwiftletError {
        SwiftletError(.dataLoss, "\(what): \(line)")
    }
}

import Errors
import YAML

/// Reads annotations one by one and remembers everything that is wrong with them.
struct AnnotationReader {
    /// Of Swiftlet's own annotations.
    static let prefix = "swiftlet/"
    /// Of one annotation, as of all of an object in Kubernetes.
    static let mostBytes = 256 << 10
    /// Those of Swiftlet's that mean something whatever kind the pod is of.
    private static let common: Set = ["allow-spoofing", "log-bytes-per-second", "log-operations-per-second", "log-directory", "run"]

    private let annotations: [String: String]
    /// Names without the prefix that were asked for.
    private var known: Set<String> = common
    private var problems: [String] = []

    init(_ annotations: [String: String]) { self.annotations = annotations }

    mutating func refuse(_ name: String, _ problem: String) { problems.append("\(name): \(problem)") }

    /// One of Swiftlet's, or in its place Virtlet's.
    ///
    /// - Returns: the name it was found by, and its value.
    mutating func take(_ own: String, virtlet: String? = nil) -> (name: String, value: String)? {
        known.insert(own)
        let ownName = Self.prefix + own
        let found = [ownName, virtlet].compactMap { name in name.flatMap { name in annotations[name].map { (name: name, value: $0) } } }
        if found.count > 1 { refuse(ownName, "given beside \(found[1].name): give one of the two") }
        guard let annotation = found.first else { return nil }
        guard annotation.value.utf8.count <= Self.mostBytes, !annotation.value.utf8.contains(0) else {
            refuse(annotation.name, "\(annotation.value.utf8.count) bytes are more than \(Self.mostBytes), or a zero byte is among them")
            return nil
        }
        return annotation
    }

    /// One of Virtlet's that Swiftlet has no name for.
    mutating func takeVirtlet(_ name: String) -> String? { annotations[name] }

    mutating func choice<Value: RawRepresentable & CaseIterable>(
        _ own: String, virtlet: String? = nil, lowercased: Bool = false
    ) -> Value? where Value.RawValue == String {
        guard let (name, value) = take(own, virtlet: virtlet), !value.isEmpty || name.hasPrefix(Self.prefix) else { return nil }
        if let choice = Value(rawValue: lowercased ? value.lowercased() : value) { return choice }
        refuse(name, "\(quoted(value)) is none of \(Value.allCases.map(\.rawValue).joined(separator: ", "))")
        return nil
    }

    /// "true" or "false", and of Virtlet's nothing but "true" is true.
    mutating func flag(_ own: String, virtlet: String? = nil) -> Bool {
        guard let (name, value) = take(own, virtlet: virtlet) else { return false }
        if name.hasPrefix(Self.prefix), value != "true", value != "false" { refuse(name, "\(quoted(value)) is neither true nor false") }
        return value == "true"
    }

    mutating func bytes(_ own: String, virtlet: String? = nil, least: UInt64, most: UInt64) -> UInt64? {
        guard let (name, value) = take(own, virtlet: virtlet) else { return nil }
        guard let bytes = Quantity.bytes(value) else {
            refuse(name, "\(quoted(value)) is no quantity such as 512Mi or 4Gi")
            return nil
        }
        // Virtlet's zero is its default.
        if bytes == 0, !name.hasPrefix(Self.prefix) { return nil }
        guard (least...most).contains(bytes) else {
            refuse(name, "\(quoted(value)) is not from \(Quantity.text(least)) to \(Quantity.text(most))")
            return nil
        }
        return bytes
    }

    /// A document of YAML; nil for an empty one.
    mutating func yaml(_ annotation: (name: String, value: String)) -> YAMLValue? {
        do {
            let value = try YAMLReader.read(annotation.value)
            return value.flatMap { $0.isNull ? nil : $0 }
        } catch {
            refuse(annotation.name, (error as? SwiftletError)?.message ?? "\(error)")
            return nil
        }
    }

    mutating func mapping(_ annotation: (name: String, value: String)) -> YAMLValue? {
        guard let value = yaml(annotation) else { return nil }
        guard case .mapping = value else {
            refuse(annotation.name, "not a mapping of keys to values")
            return nil
        }
        return value
    }

    /// - Throws: everything that was refused, and Swiftlet's annotations that nothing asked for.
    func finish() throws {
        let unknown = annotations.keys.filter { $0.hasPrefix(Self.prefix) && !known.contains(String($0.dropFirst(Self.prefix.count))) }
        let problems = problems + unknown.sorted().map { "\(printable($0)): a VM pod has no such annotation" }
        guard !problems.isEmpty else { return }
        throw SwiftletError(.invalidArgument, "annotations: \(problems.joined(separator: "; "))")
    }
}

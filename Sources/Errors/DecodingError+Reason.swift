extension DecodingError {
    /// Where a document is wrong, without its values, which may be secrets: "network.0.name is missing".
    public var reason: String {
        switch self {
        case .keyNotFound(let key, let context): "\(Self.field(context.codingPath + [key])) is missing"
        case .valueNotFound(_, let context): "\(Self.field(context.codingPath)) is null"
        case .typeMismatch(_, let context): "\(Self.field(context.codingPath)) is of another type"
        case .dataCorrupted(let context): "\(Self.field(context.codingPath)) is malformed"
        @unknown default: "the document cannot be read"
        }
    }

    private static func field(_ path: [any CodingKey]) -> String {
        guard !path.isEmpty else { return "the document" }
        return printable(path.prefix(10).map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: "."), limit: 200)
    }
}

/// Bytes that are text as a rule, such as the value of an environment variable: a kubelet takes them from a Secret as they are.
public struct RawText: Sendable, Hashable {
    public var bytes: [UInt8]

    public init(bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }

    public init(_ text: String) { bytes = Array(text.utf8) }

    package func hasPrefix(_ text: String) -> Bool { bytes.starts(with: text.utf8) }
}

extension RawText: ExpressibleByStringLiteral {
    public init(stringLiteral value: String) { self.init(value) }
}

/// Stored as text where it is text, which is all that 0.1.0 knew, and as numbers else.
extension RawText: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let text = try? container.decode(String.self) {
            self.init(text)
        } else {
            self.init(bytes: try container.decode([UInt8].self))
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if let text = String(validating: bytes, as: UTF8.self) {
            try container.encode(text)
        } else {
            try container.encode(bytes)
        }
    }
}

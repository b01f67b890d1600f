/// One XML element: attributes in the order they were given, then either text or children.
public struct XMLTag: Sendable, Equatable {
    public let name: String
    public var attributes: [Attribute]
    public var children: [XMLTag]
    public var text: String?

    public struct Attribute: Sendable, Equatable {
        public let name: String
        public let value: String
    }

    /// Names are this project's own literals; values and text may be anything.
    public init(_ name: String, _ attributes: KeyValuePairs<String, String> = [:], text: String? = nil, _ children: [XMLTag] = []) {
        self.name = name
        self.attributes = attributes.map { Attribute(name: $0.key, value: $0.value) }
        self.children = children
        self.text = text
    }

    /// The element as indented XML text, with a final newline.
    public func rendered() -> String {
        var output = ""
        write(to: &output, depth: 0)
        return output
    }

    private func write(to output: inout String, depth: Int) {
        let indent = String(repeating: "  ", count: depth)
        output += "\(indent)<\(name)"
        for attribute in attributes { output += " \(attribute.name)='\(Self.escape(attribute.value))'" }
        if let text {
            output += ">\(Self.escape(text))</\(name)>\n"
        } else if children.isEmpty {
            output += "/>\n"
        } else {
            output += ">\n"
            for child in children { child.write(to: &output, depth: depth + 1) }
            output += "\(indent)</\(name)>\n"
        }
    }

    /// Makes any text safe inside an element or a quoted attribute.
    ///
    /// Tabs and line ends become character references, since a parser turns them into spaces in attributes. Characters
    /// that XML 1.0 (section 2.2) has no way to write become U+FFFD.
    static func escape(_ text: String) -> String {
        var output = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": output += "&amp;"
            case "<": output += "&lt;"
            case ">": output += "&gt;"
            case "'": output += "&apos;"
            case "\"": output += "&quot;"
            case "\t", "\n", "\r": output += "&#\(scalar.value);"
            case "\u{0}"..."\u{1F}", "\u{FFFE}", "\u{FFFF}": output += "\u{FFFD}"
            default: output.unicodeScalars.append(scalar)
            }
        }
        return output
    }
}

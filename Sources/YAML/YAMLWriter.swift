import Linux

/// Writes YAML in block style as PyYAML, libyaml and people read it.
package struct YAMLWriter {
    private var text = ""

    package static func write(_ value: YAMLValue) -> String {
        var writer = YAMLWriter()
        switch value {
        case .scalar(let scalar): writer.text = inline(scalar) + "\n"
        case .sequence(let items) where items.isEmpty: writer.text = "[]\n"
        case .mapping(let members) where members.isEmpty: writer.text = "{}\n"
        default: writer.block(value, indent: 0)
        }
        return writer.text
    }

    /// A collection with members. The line is at `indent` already.
    private mutating func block(_ value: YAMLValue, indent: Int) {
        let pad = String(repeating: " ", count: indent)
        switch value {
        case .scalar: break
        case .sequence(let items):
            for (index, item) in items.enumerated() {
                text += (index == 0 ? "" : pad) + "- "
                entry(item, indent: indent, below: indent + 2, isItem: true)
            }
        case .mapping(let members):
            for (index, member) in members.enumerated() {
                text += (index == 0 ? "" : pad) + Self.inline(member.key) + ":"
                entry(member.value, indent: indent, below: indent + 2, isItem: false)
            }
        }
    }

    private mutating func entry(_ value: YAMLValue, indent: Int, below: Int, isItem: Bool) {
        let space = isItem ? "" : " "
        switch value {
        case .scalar(let scalar):
            text += space + (Self.literal(scalar, indent: below) ?? Self.inline(scalar)) + "\n"
        case .sequence(let items) where items.isEmpty: text += space + "[]\n"
        case .mapping(let members) where members.isEmpty: text += space + "{}\n"
        case .sequence(let items):
            if let flow = Self.flow(items) {
                text += space + flow + "\n"
                return
            }
            fallthrough
        case .mapping:
            if !isItem { text += "\n" + String(repeating: " ", count: below) }
            block(value, indent: below)
        }
    }

    /// A short list of strings on one line.
    private static func flow(_ items: [YAMLValue]) -> String? {
        let texts = items.compactMap { item -> String? in
            guard case .scalar(let scalar) = item, !scalar.isPlain, scalar.tag == nil else { return nil }
            return inline(scalar)
        }
        let line = "[" + texts.joined(separator: ", ") + "]"
        return texts.count == items.count && line.utf8.count <= 100 ? line : nil
    }

    private static func inline(_ scalar: YAMLScalar) -> String {
        let tag = scalar.tag.map { "!<\($0)> " } ?? ""
        // A dash alone is a string in a list of one line, and nowhere else.
        if scalar.isPlain, scalar.text != "-", !scalar.text.contains(where: \.isNewline) {
            return tag + (scalar.text.isEmpty ? "null" : scalar.text)
        }
        return tag + (scalar.tag == nil && isPlainString(scalar.text) ? scalar.text : quoted(scalar.text))
    }

    /// Lines of text as a literal block, where that shows them as they are.
    private static func literal(_ scalar: YAMLScalar, indent: Int) -> String? {
        let text = scalar.text
        guard !scalar.isPlain, text.utf8.contains(0x0A), text.utf8.first != 0x20, text.utf8.first != 0x0A, text.utf8.first != 0x09,
            text.unicodeScalars.allSatisfy({ $0 == "\n" || $0 == "\t" || isPrintable($0) })
        else { return nil }
        let ends = text.utf8.reversed().prefix { $0 == 0x0A }.count
        let header = ends == 0 ? "|-" : ends == 1 ? "|" : "|+"
        let pad = String(repeating: " ", count: indent)
        let lines = text.dropLast(min(ends, 1)).split(separator: "\n", omittingEmptySubsequences: false)
        let tag = scalar.tag.map { "!<\($0)> " } ?? ""
        return tag + header + "\n" + lines.map { $0.isEmpty ? "" : pad + $0 }.joined(separator: "\n")
    }

    /// Whether a string stays one without quotes: letters first, nothing that is YAML's, and none of the words for other types; or an IPv4
    /// address or prefix.
    private static func isPlainString(_ text: String) -> Bool {
        if let prefix = IPPrefix(text), !prefix.address.isIPv6 { return true }
        let words: Set = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"]
        guard let first = text.utf8.first, text.utf8.count <= 200, !words.contains(text.lowercased()) else { return false }
        let letters = { (byte: UInt8) in (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) }
        return (letters(first) || first == 0x2F)
            && text.utf8.allSatisfy { letters($0) || (0x30...0x39).contains($0) || [0x2D, 0x2E, 0x2F, 0x5F].contains($0) }
    }

    private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x20...0x7E, 0xA0...0x2027, 0x202A...0xD7FF, 0xE000...0xFEFE, 0xFF00...0xFFFD, 0x10000...0x10FFFF: true
        default: false
        }
    }

    package static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case "\r": result += "\\r"
            default:
                if isPrintable(scalar) {
                    result.unicodeScalars.append(scalar)
                } else {
                    let digits = String(scalar.value, radix: 16, uppercase: true)
                    let width = scalar.value <= 0xFF ? 2 : 4
                    result += (width == 2 ? "\\x" : "\\u") + String(repeating: "0", count: width - digits.count) + digits
                }
            }
        }
        return result + "\""
    }
}

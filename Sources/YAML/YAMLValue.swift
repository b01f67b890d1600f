import Runtime

/// A YAML document, or a part of one, that keeps what the author has written: a plain `0644` stays one, whoever reads it as which number.
package indirect enum YAMLValue: Sendable, Equatable {
    case scalar(YAMLScalar)
    case sequence([YAMLValue])
    /// In the author's order.
    case mapping([Member])

    /// A key with its value. Keys are scalars: PyYAML, which cloud-init reads with, takes no others.
    package struct Member: Sendable, Equatable {
        package var key: YAMLScalar
        package var value: YAMLValue

        package init(key: YAMLScalar, value: YAMLValue) { (self.key, self.value) = (key, value) }
    }
}

package struct YAMLScalar: Sendable, Equatable {
    package var text: String
    /// Written without quotes: what type it is of depends on the text.
    package var isPlain: Bool
    /// An explicit tag other than that of strings, such as "tag:yaml.org,2002:binary".
    package var tag: String?

    package init(text: String, isPlain: Bool = false, tag: String? = nil) {
        (self.text, self.isPlain, self.tag) = (text, isPlain, tag)
    }
}

extension YAMLValue {
    package static func string(_ text: String) -> YAMLValue { .scalar(YAMLScalar(text: text)) }
    package static func integer(_ number: Int) -> YAMLValue { .scalar(YAMLScalar(text: String(number), isPlain: true)) }
    package static func bool(_ value: Bool) -> YAMLValue { .scalar(YAMLScalar(text: String(value), isPlain: true)) }
    package static func strings(_ texts: [String]) -> YAMLValue { .sequence(texts.map { .string($0) }) }
    package static func map(_ members: [(String, YAMLValue)]) -> YAMLValue {
        .mapping(members.map { Member(key: YAMLScalar(text: $0.0), value: $0.1) })
    }

    /// The value of a key; of two, the last one counts, as for PyYAML.
    package subscript(_ key: String) -> YAMLValue? {
        guard case .mapping(let members) = self else { return nil }
        return members.last { $0.key.text == key }?.value
    }

    /// A scalar's text, whatever its type.
    package var text: String? {
        guard case .scalar(let scalar) = self else { return nil }
        return scalar.text
    }

    package var isNull: Bool { json == .null }

    /// This with another laid over it: mappings are merged key by key, lists appended, all else replaced.
    package func merged(with other: YAMLValue) -> YAMLValue {
        switch (self, other) {
        case (.mapping(let own), .mapping(let others)):
            var result = own
            // Of two equal keys the last one counts, here as well.
            var places = Dictionary(own.indices.map { (own[$0].key.text, $0) }, uniquingKeysWith: { $1 })
            for member in others {
                if let index = places[member.key.text] {
                    result[index].value = result[index].value.merged(with: member.value)
                } else {
                    places[member.key.text] = result.count
                    result.append(member)
                }
            }
            return .mapping(result)
        case (.sequence(let own), .sequence(let others)): return .sequence(own + others)
        default: return other
        }
    }
}

extension YAMLValue {
    /// As JSON has it; plain scalars by YAML's core types.
    package var json: JSONValue {
        switch self {
        case .scalar(let scalar): scalar.json
        case .sequence(let values): .array(values.map(\.json))
        case .mapping(let members):
            .object(Dictionary(members.map { ($0.key.text, $0.value.json) }, uniquingKeysWith: { $1 }))
        }
    }
}

extension YAMLScalar {
    package var json: JSONValue {
        guard isPlain else { return .string(text) }
        switch text {
        case "", "~", "null", "Null", "NULL": return .null
        case "true", "True", "TRUE": return .bool(true)
        case "false", "False", "FALSE": return .bool(false)
        default: break
        }
        guard let first = text.utf8.first, first == UInt8(ascii: "-") || (0x30...0x39).contains(first) else { return .string(text) }
        if let number = Int64(text), String(number) == text { return .integer(number) }
        if text.utf8.contains(UInt8(ascii: ".")), text.utf8.allSatisfy({ (0x30...0x39).contains($0) || $0 == 0x2E || $0 == 0x2D }),
            let number = Double(text), number.isFinite
        {
            return .number(number)
        }
        return .string(text)
    }
}

import Errors
import Foundation

/// What a document of a registry or an archive is decoded to.
protocol JSONFields: Decodable {
    /// The names of its fields and of those of the objects in it, each spelled as its type's `CodingKeys` do.
    static var fields: [String] { get }
}

extension Array: JSONFields where Element: JSONFields {
    static var fields: [String] { Element.fields }
}

/// Documents of registries and archives, read as leniently as Go's encoding/json does: the case of a field's name does not matter, and
/// null is the same as an absent field. Tools that only Go programs read write both.
enum JSONDocument {
    private struct Key: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }

        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    /// - Parameter what: names the document and what it should be, for the error.
    /// - Throws: `SwiftletError(.dataLoss)` naming the field that does not fit. It quotes no value: a configuration may hold secrets.
    static func decode<Value: JSONFields>(_ type: Value.Type, from bytes: Data, _ what: String) throws -> Value {
        let spellings = Dictionary(type.fields.map { ($0.lowercased(), $0) }, uniquingKeysWith: { first, _ in first })
        let decoder = JSONDecoder()
        // Keys of dictionaries (labels, annotations, volumes) are not asked for.
        decoder.keyDecodingStrategy = .custom { path in
            let name = path.last?.stringValue ?? ""
            return Key(stringValue: spellings[name.lowercased()] ?? name)
        }
        do {
            return try decoder.decode(type, from: bytes)
        } catch {
            throw SwiftletError(.dataLoss, "\(what): \(reason(error))")
        }
    }

    private static func reason(_ error: any Error) -> String {
        switch error {
        case DecodingError.typeMismatch(_, let context): "\(field(context.codingPath)) is of another type"
        case DecodingError.valueNotFound(_, let context): "\(field(context.codingPath)) is null"
        case DecodingError.keyNotFound(let key, let context): "\(field(context.codingPath + [key])) is missing"
        case DecodingError.dataCorrupted(let context) where !context.codingPath.isEmpty: "\(field(context.codingPath)) cannot be read"
        default: "it is not JSON"
        }
    }

    private static func field(_ path: [any CodingKey]) -> String {
        path.isEmpty
            ? "the document" : quoted(path.prefix(10).map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: "."))
    }
}

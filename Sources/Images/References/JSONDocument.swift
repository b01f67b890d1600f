import Errors
import Foundation

/// Documents of registries and archives.
enum JSONDocument {
    /// - Parameter what: names the document and what it should be, for the error.
    /// - Throws: `SwiftletError(.dataLoss)` naming the field that does not fit. It quotes no value: a configuration may hold secrets.
    static func decode<Value: Decodable>(_ type: Value.Type, from bytes: Data, _ what: String) throws -> Value {
        do {
            return try JSONDecoder().decode(type, from: bytes)
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

import Foundation
import Runtime
import SwiftProtobuf

/// The JSON of verbose answers.
enum VerboseInfo {
    static func json(_ values: some Encodable) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(values)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
    }

    /// A message under its fields' own names; all numbers are numbers.
    static func value(_ message: some SwiftProtobuf.Message) -> JSONValue {
        var options = JSONEncodingOptions()
        options.preserveProtoFieldNames = true
        options.alwaysPrintEnumsAsInts = true
        options.alwaysPrintInt64sAsNumbers = true
        guard let bytes: Data = try? message.jsonUTF8Data(options: options) else { return .null }
        return (try? JSONDecoder().decode(JSONValue.self, from: bytes)) ?? .null
    }
}

import Errors
import Foundation
import Testing

/// An error may stand in a log, an answer or a terminal, whatever it quotes.
@Suite struct SwiftletErrorTests {
    private struct Cause: Error, CustomStringConvertible {
        let description: String
    }

    private let hostile = "a\r\nforged \u{1B}[2J\u{9B}\u{202E}" + String(repeating: "x", count: 1 << 20)

    @Test func whatItQuotesIsPrintableAndBounded() {
        let error = SwiftletError(.dataLoss, "layer \(hostile)", cause: Cause(description: hostile))
        for text in [
            error.message, error.description, error.during("pull \(hostile)").description, "\(SwiftletError.wrap(error, hostile))",
        ] {
            #expect(printable(text, limit: .max) == text && text.unicodeScalars.count < 10_000, "\(text.prefix(100))")
        }
    }

    /// People read them: no error of Foundation's or of a decoder's stands there as a program prints it.
    @Test func aCauseIsInWords() throws {
        struct Document: Decodable {
            struct Part: Decodable { var name: String }
            var parts: [Part]
        }
        for (text, reason) in [
            ("{}", "parts is missing"), (#"{"parts": [{"name": 1}]}"#, "parts.0.name is of another type"),
            ("{", "the document is malformed"),
            (#"{"parts": null}"#, "parts is null"),
        ] {
            let error = #expect(throws: DecodingError.self) { try JSONDecoder().decode(Document.self, from: Data(text.utf8)) }
            #expect(SwiftletError(.dataLoss, "x", cause: error).description == "x: \(reason)")
        }
        for path in ["/nonexistent/file", "/proc/1/nothing"] {
            let error = #expect(throws: (any Error).self) { try Data(contentsOf: URL(fileURLWithPath: path)) }
            let text = SwiftletError(.notFound, "read \(path)", cause: error).description
            #expect(!text.contains("Domain") && !text.contains("UserInfo") && text.count > 8 + path.count, "\(text)")
        }
        #expect(SwiftletError.wrap(CancellationError(), "pull").description == "pull: cancelled")
    }

    @Test func aStepFurtherOutKeepsCodeAndCause() {
        let error = SwiftletError(.notFound, "no file", cause: Cause(description: "gone")).during("open")
        #expect(error.code == .notFound && error.description == "open: no file: gone")
    }
}

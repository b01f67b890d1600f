import Errors
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

    @Test func aStepFurtherOutKeepsCodeAndCause() {
        let error = SwiftletError(.notFound, "no file", cause: Cause(description: "gone")).during("open")
        #expect(error.code == .notFound && error.description == "open: no file: gone")
    }
}

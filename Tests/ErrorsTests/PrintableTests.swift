import Errors
import Testing

@Suite struct PrintableTests {
    /// C0 and C1 controls, DEL, separators of lines and paragraphs, and what turns the direction of writing.
    @Test(arguments: [0x00...0x1F, 0x7F...0x9F, 0x2028...0x2029, 0x061C...0x061C, 0x200E...0x200F, 0x202A...0x202E, 0x2066...0x2069])
    func whatCouldForgeALineIsReplaced(_ range: ClosedRange<UInt32>) throws {
        for value in range {
            let scalar = try #require(Unicode.Scalar(value))
            #expect(printable("a\(scalar)b") == "a?b", "U+\(String(value, radix: 16))")
            #expect(quoted("a\(scalar)b") == "\"a?b\"", "U+\(String(value, radix: 16))")
        }
    }

    @Test func otherTextStaysAsItIs() {
        for text in ["", "plain", "naïve – 日本 👩‍👩‍👧", "a\u{A0}b", "\u{200D}"] {
            #expect(printable(text) == text)
            #expect(quoted(text) == "\"\(text)\"")
        }
    }

    @Test func linesBecomeOne() {
        #expect(oneLine("first\nsecond\r\n\n") == "first; second")
        #expect(oneLine("\n") == "")
        #expect(oneLine("plain \u{1B}[2J") == "plain ?[2J")
        #expect(oneLine(String(repeating: "a\n", count: 100_000)).unicodeScalars.count <= 8193)
    }

    @Test func theLengthIsBounded() {
        #expect(printable(String(repeating: "x", count: 128)).count == 128)
        #expect(printable(String(repeating: "x", count: 129)) == String(repeating: "x", count: 128) + "…")
        #expect(quoted(String(repeating: "\n", count: 10_000)) == "\"\(String(repeating: "?", count: 80))…\"")
        #expect(printable("a" + String(repeating: "\u{301}", count: 10_000)).utf8.count < 300, "one character of many scalars")
        #expect(printable(String(repeating: "x", count: 10_000), limit: .max).count == 10_000)
    }
}

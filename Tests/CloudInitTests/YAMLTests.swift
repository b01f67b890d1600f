import Errors
import Support
import Testing
import YAML

@testable import CloudInit

@Suite(.timeLimit(.minutes(1))) struct YAMLTests {
    /// What is read and written again is the same to PyYAML, types included.
    @Test func whatIsWrittenIsWhatWasRead() async throws {
        let text = """
            plain: [0644, 0o644, yes, 1.5, ~, 2001-12-14, 1e3, "0644", 'yes', "", null, "- a", "a: b", "#x", "12:30", "=", "<<"]
            nested:
            - - a
              - {b: [], c: {}}
            - text: |
                line  \u{20}

                  more
              keep: |+
                x

              strip: |-
                x
                y
              folded: >
                a
                b
              lead: "  two\\n spaces"
            "quoted key: x": "tab\\tnul\\0bell\\a\\u2028\\ud7ff😀é\\"\\\\"
            anchors: &x {a: 1}
            again: *x
            merged: {<<: *x, b: 2}
            binary: !!binary aGVsbG8=
            12: number
            multi
              line: "x"
            """.replacing("multi\n  line: \"x\"", with: "? multi\n: \"x\"")
        let value = try #require(try YAMLReader.read(text))
        let written = YAMLWriter.write(value)
        #expect(try YAMLReader.read(written)?.json == value.json)
        let check = "import sys, yaml; a, b = map(yaml.safe_load, sys.argv[1:]); print(a == b, repr(a) == repr(b), len(a))"
        let result = try await CloudInitProgram.python(["-c", check, text, written])
        #expect(result.output == "True True 9\n", "\(written) \(result.errors)")
    }

    private static let large: [(String, @Sendable (Int) -> String)] = [
        ("keys", { "\(String($0, radix: 36)):\n" }), ("equal keys", { _ in "a:\n" }), ("flow keys", { "{a\($0): {}}: 1\n" }),
        ("items", { _ in "- \n" }), ("anchors", { "- &a\($0) 1\n" }), ("comments", { _ in "#\n" }), ("blank lines", { _ in "\n" }),
        ("flow", { _ in "- [a, b]\n" }), ("one flow", { $0 == 0 ? "[" : "a,\n" }), ("quotes", { $0 == 0 ? "\"" : "a\n\n" }),
        ("words", { $0 == 0 ? "a: " : " b\n" }), ("explicit keys", { _ in "? " }), ("indents", { _ in "- " }), ("colons", { _ in "a: " }),
    ]

    /// What an annotation may hold, made to take long: time grows with the text and not with its square.
    @Test(arguments: large) func aLargeTextIsReadAndMergedInLittleTime(_ what: String, _ piece: @Sendable (Int) -> String) {
        var (text, count) = ("", 0)
        // Below the limit of values as well.
        while text.utf8.count < 250 << 10, count < 24_000 || what == "blank lines" || what == "comments" {
            text += piece(count)
            count += 1
        }
        let start = ContinuousClock.now
        if let value = try? YAMLReader.read(text) {
            let others = (0..<24_000).map { YAMLValue.Member(key: YAMLScalar(text: "other \($0)"), value: .integer($0)) }
            let merged = value.merged(with: .mapping(others)).merged(with: value)
            _ = YAMLWriter.write(merged)
            _ = merged.json
        }
        #expect(ContinuousClock.now - start < .seconds(20), "\(what): \(ContinuousClock.now - start)")
    }

    @Test func randomDocumentsAreWrittenAsTheyAre() throws {
        var random = SplitMix(seed: 5)
        for _ in 0..<300 {
            let value = Self.value(&random, depth: 0)
            let written = YAMLWriter.write(value)
            let read = try YAMLReader.read(written)
            #expect(read?.json == value.json, "\(written)")
        }
    }

    private static func value(_ random: inout SplitMix, depth: Int) -> YAMLValue {
        let pieces = [
            "a", "-", ": ", " #", "\n", " ", "\t", "'", "\"", "0", "yes", "[", "é", "\u{7F}", "\r", "|", ">", "&", "*", "!", "%", "@", "?",
            "{}", "\u{2029}", "~",
        ]
        let text = { (random: inout SplitMix) in
            (0..<Int.random(in: 0...6, using: &random)).map { _ in pieces.randomElement(using: &random) ?? "" }.joined()
        }
        switch depth > 3 ? 0 : Int.random(in: 0..<4, using: &random) {
        case 0, 1: return .string(text(&random))
        case 2: return .sequence((0..<Int.random(in: 0...4, using: &random)).map { _ in value(&random, depth: depth + 1) })
        default:
            let keys = Set((0..<Int.random(in: 0...4, using: &random)).map { _ in text(&random) }).sorted()
            return .map(keys.map { ($0, value(&random, depth: depth + 1)) })
        }
    }

    /// Each level ten of the one below: 10^9 values from a few hundred bytes.
    @Test(arguments: [false, true]) func aBombIsRefusedWhileItIsRead(_ inKeys: Bool) {
        var text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        for level in 1...8 {
            let aliases = Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
            text += "a\(level): &a\(level) [\(aliases)]\n"
        }
        if inKeys { text += "? *a8\n: x\n" }
        #expect(throws: SwiftletError.self) { try YAMLReader.read(text) }
        // The same with one long text.
        let long = "a: &a \(String(repeating: "x", count: 100_000))\nb: [" + Array(repeating: "*a", count: 100).joined(separator: ",") + "]"
        let error = #expect(throws: SwiftletError.self) { try YAMLReader.read(long) }
        #expect(error?.message.contains("bytes, with aliases expanded") == true)
    }

    @Test(arguments: [
        ("[", "line 1"), ("a: *b", "an alias of no anchor"), ("a: &a [*a]", "an alias of no anchor"),
        ("? [a]\n: b", "a key that is no scalar"),
        ("a\n---\nb", "a second document"), (String(repeating: "[", count: 1000), "nested deeper than 50 levels"),
        (String(repeating: "- ", count: 200) + "a", "nested deeper than 50 levels"), ("a: \u{1}", "line 1"),
        ("a: @b", "line 1"), (String(repeating: "a", count: 3 << 20), "bytes of YAML are more than"),
    ])
    func whatIsNoDocumentIsRefused(_ text: String, _ problem: String) {
        let error = #expect(throws: SwiftletError.self) { try YAMLReader.read(text) }
        #expect(error?.code == .invalidArgument && error?.message.contains(problem) == true, "\(error?.message ?? "")")
    }

    @Test func nothingIsNoValue() throws {
        for text in ["", "# only this\n", "\n\n"] { #expect(try YAMLReader.read(text) == nil) }
    }

    @Test func mappingsAreMergedAndListsAppended() throws {
        let lower = try #require(try YAMLReader.read("{a: {x: 1, y: 2}, b: [1], c: 1, d: [1]}"))
        let upper = try #require(try YAMLReader.read("{a: {y: 3, z: 4}, b: [2], c: [2], d: 5, e: 6}"))
        #expect(
            lower.merged(with: upper).json
                == .object([
                    "a": .object(["x": 1, "y": 3, "z": 4]), "b": .array([1, 2]), "c": .array([2]), "d": 5, "e": 6,
                ]))
    }
}

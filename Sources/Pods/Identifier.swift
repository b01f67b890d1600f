import Errors
import Runtime

/// Ids of sandboxes and containers: 64 lower-case hexadecimal digits, as containerd's.
enum Identifier {
    static let length = 64

    static func make() -> String {
        var generator = SystemRandomNumberGenerator()
        return (0..<4).map { _ in hexadecimal(generator.next()) }.joined()
    }

    /// Whether a text could be an id, or the beginning of one.
    static func isPossible(_ id: String) -> Bool { !id.isEmpty && id.utf8.count <= length && id.utf8.allSatisfy(isHexadecimalDigit) }

    /// Checks an id, or the beginning of one, that came from a client.
    ///
    /// - Throws: `.invalidArgument` for anything that could not be (the beginning of) an id of ours.
    static func check(_ id: String, of what: String) throws {
        guard !id.isEmpty else { throw SwiftletError(.invalidArgument, "\(what) id is missing") }
        guard isPossible(id) else {
            throw SwiftletError(.invalidArgument, "\(what) id \(quoted(id)) is not 1 to \(length) lower-case hexadecimal digits")
        }
    }

    private static func isHexadecimalDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
    }

    private static func hexadecimal(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

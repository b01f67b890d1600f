import Glibc
import Synchronization

/// Writes a console to standard output: byte by byte, or as text that a terminal can be shown.
final class ConsoleOutput: Sendable {
    private let isTerminal: Bool
    private let text = Mutex(ConsoleText())

    init(isTerminal: Bool) { self.isTerminal = isTerminal }

    func write(_ bytes: [UInt8]) {
        guard isTerminal else { return Terminal.write(bytes, to: STDOUT_FILENO) }
        Terminal.output(text.withLock { $0.printable(bytes) })
    }
}

/// A guest's bytes as text without what could move the cursor, change the terminal or forge what stands there: of control characters,
/// newlines and tabs are left.
struct ConsoleText {
    /// A character whose last bytes have not come.
    private var unfinished: [UInt8] = []
    /// Carriage returns that a newline may follow: a serial console's lines end so.
    private var returns = 0

    mutating func printable(_ bytes: [UInt8]) -> String {
        let all = unfinished + bytes
        let whole = all.count - Self.unfinishedCount(all)
        unfinished = Array(all[whole...])
        var result = ""
        var rest = String(decoding: all[..<whole], as: UTF8.self).unicodeScalars[...]
        while let scalar = rest.first {
            if scalar == "\r" {
                returns += 1
                rest = rest.dropFirst()
                continue
            }
            if returns > 0 {
                if scalar != "\n" { result += String(repeating: "?", count: returns) }
                returns = 0
            }
            if scalar == "\n" || scalar == "\t" {
                result.unicodeScalars.append(scalar)
                rest = rest.dropFirst()
            } else {
                let plain = rest.prefix { !["\r", "\n", "\t"].contains($0) }
                result += Terminal.printable(String(plain))
                rest = rest[plain.endIndex...]
            }
        }
        return result
    }

    /// How many bytes at the end begin a character of UTF-8 that has more of them.
    private static func unfinishedCount(_ bytes: [UInt8]) -> Int {
        for (index, byte) in bytes.suffix(3).reversed().enumerated() {
            switch byte {
            case 0x80...0xBF: continue
            case 0xC2...0xDF: return index + 1 < 2 ? index + 1 : 0
            case 0xE0...0xEF: return index + 1 < 3 ? index + 1 : 0
            case 0xF0...0xF4: return index + 1 < 4 ? index + 1 : 0
            default: return 0
            }
        }
        return 0
    }
}

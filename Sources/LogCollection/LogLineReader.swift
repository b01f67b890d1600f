import Runtime

/// A line of the CRI log format: `<time> <stdout|stderr> <tag> <content>`.
struct LogLine: Equatable {
    /// RFC 3339 in UTC with nine digits.
    let time: String
    let stream: String
    /// P for a piece whose line goes on, F for the end of a line, with further tags behind a colon.
    let tag: String
    let text: String
}

/// Reads lines as text, those of one container in their order.
///
/// A line of more than 16 KiB is cut between bytes; a character that is cut is whole in the second piece.
struct LogLineReader {
    private struct Key: Hashable {
        let container: UInt64
        let isStderr: Bool
    }

    /// The beginnings of characters that go on in the next piece.
    private var cut: [Key: [UInt8]] = [:]
    /// Of logs that were closed within a line. Beyond them, characters that are cut are replaced.
    private static let mostCut = 4096

    /// Something of the container was dropped here.
    mutating func skip(_ container: CollectedContainer) {
        for isStderr in [false, true] { cut[Key(container: container.number, isStderr: isStderr)] = nil }
    }

    mutating func read(_ lines: [UInt8], of container: CollectedContainer, _ body: (LogLine) -> Void) {
        for line in lines.split(separator: 0x0A, omittingEmptySubsequences: true) {
            let fields = line.split(separator: UInt8(ascii: " "), maxSplits: 3, omittingEmptySubsequences: false)
            guard fields.count == 4 else { continue }
            let key = Key(container: container.number, isStderr: fields[1].elementsEqual("stderr".utf8))
            body(
                LogLine(
                    time: String(decoding: fields[0], as: UTF8.self), stream: String(decoding: fields[1], as: UTF8.self),
                    tag: String(decoding: fields[2], as: UTF8.self), text: text(fields[3], fields[2].first == UInt8(ascii: "P"), key)))
        }
    }

    private mutating func text(_ content: ArraySlice<UInt8>, _ goesOn: Bool, _ key: Key) -> String {
        guard goesOn || !cut.isEmpty else { return String(decoding: content, as: UTF8.self) }
        var bytes = cut.removeValue(forKey: key) ?? []
        bytes += content
        if goesOn {
            let rest = Self.unfinished(bytes)
            if rest > 0 {
                if cut.count >= Self.mostCut { cut = [:] }
                cut[key] = Array(bytes.suffix(rest))
                bytes.removeLast(rest)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// How many bytes at the end begin a character that is longer (RFC 3629, section 3).
    static func unfinished(_ bytes: [UInt8]) -> Int {
        for (back, byte) in bytes.suffix(3).reversed().enumerated() {
            let length =
                switch byte {
                case 0x80...0xBF: 0
                case 0xC2...0xDF: 2
                case 0xE0...0xEF: 3
                case 0xF0...0xF4: 4
                default: 1
                }
            if length > 0 { return length > back + 1 ? back + 1 : 0 }
        }
        return 0
    }
}

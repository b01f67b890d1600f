import Support
import Testing

@testable import Logs

/// Lines of a terminal, however its bytes come.
@Suite struct TerminalLinesTests {
    @Test func noByteOfATerminalIsLostWhereverItIsCut() {
        var random = SplitMix(variable: "TERMINAL_SEED")
        for round in 0..<300 {
            // Many ends of lines, whole and halves, and now and then more than a piece.
            let long = round % 30 == 0
            let bytes = (0..<Int.random(in: 0...(long ? 60_000 : 200), using: &random)).map { _ -> UInt8 in
                switch UInt8.random(in: 0...(long ? 250 : 9), using: &random) {
                case 0: 0x0D
                case 1: 0x0A
                default: UInt8.random(in: 0x20...0x7E, using: &random)
                }
            }
            var (encoder, output, rest) = (LogLineEncoder(source: .stdout), [UInt8](), bytes[...])
            encoder.isTerminal = true
            while !rest.isEmpty {
                let piece = Array(rest.prefix(Int.random(in: 1...(long ? 20_000 : 40), using: &random)))
                rest = rest.dropFirst(piece.count)
                piece.withUnsafeBytes { encoder.append($0, timestamp: Array("T".utf8), to: &output) }
                if Bool.random(using: &random) { encoder.writePart(timestamp: Array("T".utf8), to: &output) }
            }
            encoder.finish(timestamp: Array("T".utf8), to: &output)
            #expect(encoder.pendingCount == 0)
            let isWhole = Self.text(output) == Self.expected(bytes)
            #expect(isWhole, "seed \(random.seed), round \(round)")
        }
    }

    /// What the lines hold, as kubectl shows it.
    private static func text(_ log: [UInt8]) -> [UInt8] {
        log.split(separator: 0x0A).flatMap { line -> [UInt8] in
            let content = Array(line.dropFirst("T stdout F ".utf8.count))
            #expect(content.count <= LogLineEncoder.maximumContent)
            return line.starts(with: "T stdout F ".utf8) ? content + [0x0A] : content
        }
    }

    /// "\r\n" is an end of line, and so is the source's end, with a "\r" before it or not.
    private static func expected(_ bytes: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        for byte in bytes {
            if byte == 0x0A, result.last == 0x0D { result.removeLast() }
            result.append(byte)
        }
        guard let last = bytes.last, last != 0x0A else { return result }
        if last == 0x0D { result.removeLast() }
        return result + [0x0A]
    }
}

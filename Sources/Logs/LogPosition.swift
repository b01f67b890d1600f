import Glibc
import Runtime

/// How far a container's output has been written to its log, kept in a small file beside the pod's state.
///
/// The daemon may be killed between writing a line and acknowledging it to the guest. The position together with
/// the lines found behind it gives the exact number of bytes to ask the guest for again: none is lost and
/// none is written twice.
struct LogPosition: Equatable {
    /// Bytes of each source that the log holds.
    var stdout: UInt64 = 0
    var stderr: UInt64 = 0
    /// Size and inode of the log file when this was noted.
    var logSize: UInt64 = 0
    var inode: UInt64 = 0
    /// Bytes of each source that were dropped and counted above, which no line of the log names yet.
    var dropped = OutputOffsets()
    /// What is noted once the lines of the write that is under way are in the file, where the lines themselves do not tell what they hold.
    var intended: Intended?

    struct Intended: Equatable {
        var logSize: UInt64
        var stdout: UInt64
        var dropped: UInt64
    }

    /// Whether the last line counted of each source was a P piece that only the end of the source makes so short.
    private var stdoutIsClosing = false
    private var stderrIsClosing = false

    /// Of the file: four words, since 2 with the version behind them. Version 1 had the four words alone. The two words of what was
    /// dropped came without a new version: a streamd that does not know them goes on at the exact byte, and leaves the line out.
    static let version: UInt64 = 2
    private static let words = 7
    /// Those of `intended`, behind the others, which is all that a streamd reads that knows no consoles. Zeros: none.
    private static let intendedWords = 3

    init() {}

    var offsets: OutputOffsets { OutputOffsets(stdout: stdout, stderr: stderr) }

    /// The position noted in `descriptor`, or nil when none was ever noted whole, or by a newer version that counts otherwise.
    init?(readingFrom descriptor: Int32) {
        var words = [UInt64](repeating: 0, count: Self.words + Self.intendedWords)
        let count = words.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
        switch count / MemoryLayout<UInt64>.size {
        case 4: break
        case 5 where words[4] <= Self.version: break
        case Self.words..<(Self.words + Self.intendedWords) where words[4] <= Self.version:
            dropped = OutputOffsets(stdout: words[5], stderr: words[6])
        case Self.words + Self.intendedWords where words[4] <= Self.version:
            dropped = OutputOffsets(stdout: words[5], stderr: words[6])
            if words[7] != 0 { intended = Intended(logSize: words[7], stdout: words[8], dropped: words[9]) }
        default: return nil
        }
        (stdout, stderr, logSize, inode) = (words[0], words[1], words[2], words[3])
    }

    /// Notes the position with one write. Only the first one to a file takes room.
    ///
    /// - Returns: whether it is noted.
    @discardableResult
    func write(to descriptor: Int32) -> Bool {
        let words = [
            stdout, stderr, logSize, inode, Self.version, dropped.stdout, dropped.stderr, intended?.logSize ?? 0, intended?.stdout ?? 0,
            intended?.dropped ?? 0,
        ]
        return words.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, 0) == $0.count }
    }

    /// Makes what was intended to be so.
    mutating func fulfil(_ intended: Intended) {
        (logSize, stdout, dropped.stdout) = (intended.logSize, intended.stdout, intended.dropped)
        self.intended = nil
    }

    /// Adds what complete lines of the CRI format hold: F lines count their newline, P pieces do not, nor does an F that closes a line
    /// without end (``LogLineEncoder/finish(timestamp:to:)``).
    ///
    /// - Returns: the number of bytes of `bytes` that complete lines take.
    mutating func advance(over bytes: [UInt8]) -> Int {
        bytes.withUnsafeBytes { buffer in
            var start = 0
            while let length = UnsafeRawBufferPointer(rebasing: buffer[start...]).firstIndex(ofByte: 0x0A) {
                count(line: UnsafeRawBufferPointer(rebasing: buffer[start..<start + length]))
                start += length + 1
            }
            return start
        }
    }

    private mutating func count(line: UnsafeRawBufferPointer) {
        let fields = line.split(separator: UInt8(ascii: " "), maxSplits: 3, omittingEmptySubsequences: false)
        guard fields.count == 4 else { return }
        if fields[2].elementsEqual(LogLineEncoder.droppedTag.utf8) {
            let count = Self.number(fields[3])
            if fields[1].elementsEqual("stdout".utf8) {
                Self.count(dropped: count, &stdout, &dropped.stdout)
                stdoutIsClosing = false
            } else {
                Self.count(dropped: count, &stderr, &dropped.stderr)
                stderrIsClosing = false
            }
        } else if fields[1].elementsEqual("stdout".utf8) {
            Self.count(fields[3].count, isFull: fields[2].first == UInt8(ascii: "F"), &stdout, &stdoutIsClosing)
        } else {
            Self.count(fields[3].count, isFull: fields[2].first == UInt8(ascii: "F"), &stderr, &stderrIsClosing)
        }
    }

    /// What was noted when it was dropped is not counted again.
    private static func count(dropped count: UInt64, _ total: inout UInt64, _ noted: inout UInt64) {
        total += count - min(count, noted)
        noted -= min(count, noted)
    }

    /// The first number of the line's text; swiftlet alone writes lines of this tag.
    private static func number(_ text: Slice<UnsafeRawBufferPointer>) -> UInt64 {
        let digits = text.drop { !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            .prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        return UInt64(String(decoding: digits.prefix(18), as: UTF8.self)) ?? 0
    }

    private static func count(_ content: Int, isFull: Bool, _ total: inout UInt64, _ isClosing: inout Bool) {
        total += UInt64(content)
        if isFull, content > 0 || !isClosing { total += 1 }
        isClosing = !isFull && content < LogLineEncoder.maximumContent
    }
}

/// The file that keeps a `LogPosition`.
public enum LogPositionFile {
    /// Removes it; one that is not there is fine.
    public static func remove(_ path: String) {
        unlink(path)
    }
}

import Glibc
import Runtime
import Synchronization

/// Whose lines they are: the same object for all lines of one open log.
final class CollectedContainer: Sendable {
    private static let last = Atomic<UInt64>(0)

    let id: String
    let names: ContainerNames?
    /// No other object of the process has it, also when this one is gone.
    let number = last.wrappingAdd(1, ordering: .relaxed).newValue

    init(id: String, names: ContainerNames?) { (self.id, self.names) = (id, names) }
}

/// How much a collector did not get.
struct DroppedLines: Sendable, Equatable {
    var lines = 0
    /// Of the log, with what stands before each line.
    var bytes = 0

    static func += (sum: inout DroppedLines, more: DroppedLines) {
        sum.lines += more.lines
        sum.bytes += more.bytes
    }
}

/// Lines of one log that were written at once, or a gap in them.
struct CollectedPiece: Sendable {
    enum Content: Sendable {
        /// Whole lines of the CRI log format.
        case lines([UInt8])
        /// These were dropped here.
        case gap(DroppedLines)
    }

    /// Nil: of containers that are gone.
    let container: CollectedContainer?
    let content: Content
}

extension [UInt8] {
    /// Whole lines in pieces of no more than so many bytes; a line that is longer is a piece of its own. Each is a copy: one that waits is
    /// not to keep the room of the log's buffer, which can be a thousand times larger than the piece.
    func pieces(of limit: Int) -> [[UInt8]] {
        guard count > limit else { return isEmpty ? [] : [Self(copying: self[...])] }
        var pieces: [[UInt8]] = []
        var start = 0
        while start < count {
            let window = self[start..<Swift.min(start + limit, count)]
            let end = window.lastIndex(of: 0x0A) ?? self[start...].firstIndex(of: 0x0A) ?? count - 1
            pieces.append(Self(copying: self[start...end]))
            start = end + 1
        }
        return pieces
    }

    /// With room for these bytes alone. An array made from an array or its slice may share the former's room.
    private init(copying bytes: ArraySlice<UInt8>) {
        self = []
        reserveCapacity(bytes.count)
        append(contentsOf: bytes)
    }

    /// By memchr, as logs are cut into lines.
    var lineCount: Int {
        withUnsafeBytes { bytes in
            var (count, rest) = (0, bytes[...])
            while let start = UnsafeRawBufferPointer(rebasing: rest).baseAddress, let found = memchr(start, 0x0A, rest.count) {
                rest = rest.dropFirst(UnsafeRawPointer(found) - start + 1)
                count += 1
            }
            return count
        }
    }
}

import Concurrency
import Errors
import Glibc
import Synchronization

/// Reads a machine's console, which grows at its end, and whose beginning is cut off when it is too long (ConsoleLogs in swiftletd: it leaves
/// the last 256 KiB of a MiB).
final class ConsoleReader: Sendable {
    private enum Phase {
        case following
        /// Nothing more is written: what the file holds is all.
        case finishing
        case cancelled
    }

    /// From one look at the file to the next.
    private static let pause: UInt32 = 100_000
    /// Bytes of what was read last by which the place is found in a file that was cut.
    private static let mark = 4096

    private let path: String
    private let descriptor: Int32
    private let phase = Mutex(Phase.following)

    /// - Throws: `SwiftletError` for a file that cannot be opened: it is on the node, and root's.
    init(path: String) throws {
        self.path = path
        descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else { throw SwiftletError.system("reading the console \(path)") }
    }

    deinit { close(descriptor) }

    /// Lets `follow` return when the file has been read to its end.
    func finish() { phase.withLock { if $0 != .cancelled { $0 = .finishing } } }

    private func cancel() { phase.withLock { $0 = .cancelled } }

    /// Passes on what the console holds now.
    func readOnce(_ sink: @escaping @Sendable ([UInt8]) -> Void) async throws {
        try await OwnThread.run { [self] in
            var place = Place()
            // A guest that writes faster than this reads has no last line.
            let end = try size()
            while place.offset < end, try advance(&place, sink) {}
        }
    }

    /// Passes on what the console holds and what comes, until `finish`. Cancelling the task ends it at once.
    func follow(_ sink: @escaping @Sendable ([UInt8]) -> Void) async throws {
        try await withTaskCancellationHandler {
            try await OwnThread.run { [self] in
                var place = Place()
                while true {
                    let isLast = phase.withLock { $0 } == .finishing
                    while phase.withLock({ $0 }) != .cancelled, try advance(&place, sink) {}
                    if isLast || phase.withLock({ $0 }) == .cancelled { return }
                    usleep(Self.pause)
                }
            }
        } onCancel: {
            cancel()
        }
    }

    private struct Place {
        var offset: UInt64 = 0
        /// What stands before it.
        var mark: [UInt8] = []
    }

    /// - Returns: false at the present end.
    private func advance(_ place: inout Place, _ sink: ([UInt8]) -> Void) throws -> Bool {
        if try size() < place.offset { try findAgain(&place) }
        let bytes = try read(at: place.offset, 64 << 10)
        guard !bytes.isEmpty else { return false }
        place.offset += UInt64(bytes.count)
        place.mark = (place.mark + bytes).suffix(Self.mark)
        sink(bytes)
        return true
    }

    /// The file was cut: goes on behind what was read last, or at its beginning where that is not in it any more.
    private func findAgain(_ place: inout Place) throws {
        // It is empty for a moment before its end is written again.
        usleep(Self.pause)
        var content: [UInt8] = []
        while true {
            let more = try read(at: UInt64(content.count), 1 << 20)
            if more.isEmpty { break }
            content += more
        }
        place.offset = UInt64(Self.end(of: place.mark, in: content) ?? 0)
    }

    /// Where the last occurrence ends.
    static func end(of mark: [UInt8], in content: [UInt8]) -> Int? {
        guard let last = mark.last, mark.count <= content.count else { return nil }
        var end = content.count
        while end >= mark.count, let index = content[..<end].lastIndex(of: last), index + 1 >= mark.count {
            if content[(index + 1 - mark.count)...index].elementsEqual(mark) { return index + 1 }
            end = index
        }
        return nil
    }

    private func size() throws -> UInt64 {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw SwiftletError.system("reading the console \(path)") }
        return UInt64(max(status.st_size, 0))
    }

    private func read(at offset: UInt64, _ count: Int) throws -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: count)
        while true {
            let read = pread(descriptor, &buffer, count, off_t(offset))
            if read < 0, errno == EINTR { continue }
            guard read >= 0 else { throw SwiftletError.system("reading the console \(path)") }
            buffer.removeLast(count - read)
            return buffer
        }
    }
}

import Errors
import Runtime

/// What a machine writes to its console, for one who watches: the last of it, and all that comes from then on.
///
/// It reads the file by itself, so that a log that stands still holds nobody up. Who reads so slowly that what they have not seen was
/// released is told how much that was. One task reads.
public actor ConsoleTail {
    /// Bytes that are shown of what was written before.
    public static let shown: UInt64 = 64 << 10

    private let file: ConsoleFile
    private let wake: FileWake
    private let end: OutputEnd
    private var offset: UInt64
    private var hasShown = false

    /// - Parameter end: nothing is written after it has come, and nothing waited for.
    public static func open(_ path: String, until end: OutputEnd) async throws -> ConsoleTail {
        let file = try await ConsoleFile.open(path)
        let length = try await file.length()
        return try ConsoleTail(file, length > shown ? length - shown : 0, end)
    }

    private init(_ file: ConsoleFile, _ offset: UInt64, _ end: OutputEnd) throws {
        (self.file, self.offset, self.end) = (file, offset, end)
        wake = try FileWake(file)
        end.onCome { [weak wake] in wake?.wake() }
    }

    /// Waits for bytes.
    ///
    /// - Returns: nil at the end.
    public func read() async throws -> [UInt8]? {
        while true {
            try Task.checkCancellation()
            // Asked for first: what is in the file after the end has come is all.
            let isLast = end.hasCome
            switch try await file.piece(at: offset) {
            case .bytes(let bytes):
                offset += UInt64(bytes.count)
                hasShown = true
                return bytes
            case .released(let count):
                offset += count
                if hasShown { return Self.notice(count) }
            case .end:
                if isLast { return nil }
                await wake.wait()
            }
        }
    }

    private static func notice(_ count: UInt64) -> [UInt8] {
        Array("\r\n[swiftlet: \(count) bytes of output were lost: this client reads too slowly]\r\n".utf8)
    }
}

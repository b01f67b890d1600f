import Concurrency
import Errors
import Glibc
import Linux
import Logging
import Synchronization

/// Keeps the console logs of running machines small: a guest writes to its serial port as much as it likes.
///
/// QEMU appends to the file, so that it can be cut while the machine runs. Between two looks a guest can write what its serial port
/// takes in that time, some hundred KiB a second.
public final class ConsoleLogs: Sendable {
    /// Bytes past which a log is cut.
    public static let limit = 1 << 20
    /// Bytes of its end that a cut leaves.
    static let kept = 256 << 10

    /// Bytes on the disk past which the beginning of a log that somebody reads is released: who reads it releases what they have read, so
    /// that it has grown because they are absent or held up.
    public static let readLimit: UInt64 = 64 << 20
    /// What is left then.
    static let readKept: UInt64 = 32 << 20

    /// What becomes of a log that is too long.
    public enum Bound: Sendable {
        /// It is cut to its end: nobody reads it but for a look at it.
        case cut
        /// Its beginning is released: somebody counts its bytes from its beginning, and would miss those that a cut loses.
        case release
    }

    private typealias Paths = [MachineID: (path: String, bound: Bound)]

    /// What the task that looks at the files shares with this object, which it must not keep alive.
    private final class Watched: Sendable {
        let paths = Mutex<Paths>([:])
    }

    private let watched = Watched()
    private let work: Task<Void, Never>

    /// - Parameter interval: from one look at the files to the next.
    public init(interval: Duration = .seconds(5), logger: Logger) {
        let watched = watched
        work = Task {
            while !Task.isCancelled {
                try? await Task.sleep(for: interval)
                let paths = watched.paths.withLock { Array($0.values) }
                guard !paths.isEmpty, !Task.isCancelled else { continue }
                try? await OwnThread.run {
                    for (path, bound) in paths {
                        do {
                            switch bound {
                            case .cut: try Self.cut(path)
                            case .release: try Self.release(path)
                            }
                        } catch {
                            logger.warning("console log not bounded", metadata: ["path": "\(path)", "error": "\(error)"])
                        }
                    }
                }
            }
        }
    }

    deinit { work.cancel() }

    /// From now on the log of this machine is looked at.
    public func watch(_ path: String, of id: MachineID, _ bound: Bound = .cut) { watched.paths.withLock { $0[id] = (path, bound) } }

    public func forget(_ id: MachineID) { _ = watched.paths.withLock { $0.removeValue(forKey: id) } }

    /// Releases all but the last bytes of a log that takes too much of the disk. Blocks. No byte moves, and the guest waits for nothing.
    static func release(_ path: String, limit: UInt64 = readLimit, kept: UInt64 = readKept) throws {
        let descriptor = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard descriptor >= 0 else {
            if errno == ENOENT { return }
            throw SwiftletError.system("open \(path)")
        }
        defer { close(descriptor) }
        let size = try SparseFile.size(descriptor)
        guard size.taken > limit, size.length > kept else { return }
        _ = try SparseFile.release(descriptor, from: 0, to: size.length - kept)
    }

    /// Cuts a log that is too long to its last bytes. Blocks. What the guest writes in the same moment comes before these or is lost.
    static func cut(_ path: String) throws {
        let descriptor = open(path, O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard descriptor >= 0 else {
            if errno == ENOENT { return }
            throw SwiftletError.system("open \(path)")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw SwiftletError.system("look at \(path)") }
        guard status.st_mode & S_IFMT == S_IFREG, status.st_size > off_t(limit) else { return }
        let end = [UInt8](unsafeUninitializedCapacity: kept) { buffer, count in
            count = max(0, pread(descriptor, buffer.baseAddress, buffer.count, status.st_size - off_t(kept)))
        }
        guard ftruncate(descriptor, 0) == 0 else { throw SwiftletError.system("cut \(path)") }
        guard write(descriptor, end, end.count) == end.count else { throw SwiftletError.system("write the end of \(path) again") }
    }
}

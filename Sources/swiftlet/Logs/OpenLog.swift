import CLinux
import Errors
import Glibc

/// One file of a log, as far as it has been read: the one that has the log's name, or an earlier one.
struct OpenLog {
    /// Of the log.
    private let path: String
    private let descriptor: Int32
    private let identity: (device: dev_t, inode: ino_t)
    /// In bytes, when it was opened.
    let size: UInt64

    init(path: String) throws {
        guard let log = try Self(path: path, file: path) else { throw SwiftletError.system("reading the log \(path)") }
        self = log
    }

    /// The file that has the log's name; nil while there is none.
    static func present(_ path: String) throws -> OpenLog? { try OpenLog(path: path, file: path) }

    /// - Returns: nil, with `errno`, for a file that is not there.
    private init?(path: String, file: String) throws {
        self.path = path
        descriptor = open(file, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw SwiftletError.system("reading the log \(file)")
        }
        var status = stat()
        fstat(descriptor, &status)
        identity = (status.st_dev, status.st_ino)
        size = UInt64(max(status.st_size, 0))
    }

    func close() { Glibc.close(descriptor) }

    /// Begins with the last lines.
    func start(_ lines: Int, _ decoder: inout CRILogDecoder) throws {
        let tail = try LogTail(lines: lines, of: descriptor, end: size, path)
        guard lseek(descriptor, off_t(tail.start), SEEK_SET) >= 0 else { throw SwiftletError.system("reading the log \(path)") }
        decoder.startTail(tail)
    }

    /// Another file has the log's name: this one was rotated. False while there is none.
    var isReplaced: Bool { Self.identity(of: path).map { $0 != identity } ?? false }

    private static func identity(of file: String) -> (dev_t, ino_t)? {
        var status = stat()
        return stat(file, &status) == 0 ? (status.st_dev, status.st_ino) : nil
    }

    /// The file behind this one, where it was rotated: a log that grows fast is rotated several times between two looks. Files that were
    /// compressed or removed meanwhile are passed over.
    ///
    /// - Returns: nil where the log has no file.
    func successor() -> OpenLog? {
        var earlier = rotatedSince()
        while true {
            for file in earlier {
                if let next = try? OpenLog(path: path, file: file) { return next }
            }
            guard let next = try? OpenLog.present(path) else { return nil }
            // Rotated before it was opened, the successor is among the others now.
            let known = earlier
            earlier = rotatedSince()
            if earlier == known { return next }
            next.close()
        }
    }

    /// The rotated files that are younger than this one; all where this one is not among them any longer.
    private func rotatedSince() -> [String] {
        let files = Self.rotated(path)
        guard let index = files.lastIndex(where: { Self.identity(of: $0).map { $0 == identity } ?? false }) else { return files }
        return Array(files[(index + 1)...])
    }

    /// The earlier files of a log, the oldest first, but those that are compressed. They are called LOG.YYYYMMDD-HHMMSS by the kubelet, and
    /// with _NNN behind it by swiftlet-streamd.
    private static func rotated(_ path: String) -> [String] {
        let slash = path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex
        let (directory, prefix) = (path[..<slash], path[slash...] + ".")
        guard let entries = opendir(directory.isEmpty ? "." : String(directory)) else { return [] }
        defer { closedir(entries) }
        var files: [String] = []
        while let entry = readdir(entries) {
            let name = String(cString: clinux_entry_name(entry))
            guard name.hasPrefix(prefix), name.dropFirst(prefix.count).wholeMatch(of: /[0-9]{8}-[0-9]{6}(_[0-9]+)?/) != nil else {
                continue
            }
            files.append(directory + name)
        }
        return files.sorted()
    }

    /// Hands on the next piece of the file.
    ///
    /// - Returns: false at `end`, and at the file's present end.
    func advance(
        _ decoder: inout CRILogDecoder, upTo end: UInt64 = .max, _ sink: (CRILogDecoder.Piece) -> Void
    ) throws -> Bool {
        let position = UInt64(max(lseek(descriptor, 0, SEEK_CUR), 0))
        guard position < end else { return false }
        var buffer = [UInt8](repeating: 0, count: Int(min(64 << 10, end - position)))
        let count = read(descriptor, &buffer, buffer.count)
        guard count >= 0 else {
            if errno == EINTR { return true }
            throw SwiftletError.system("reading the log \(path)")
        }
        guard count > 0 else { return false }
        decoder.decode(Array(buffer[..<count])).forEach(sink)
        return true
    }
}

import Errors
import Glibc
import Synchronization

/// Reads a log that another process writes, through the names that its files are given. Its methods block.
final class WrittenLogReader: Sendable {
    /// How far it was read: kept in a small file beside the others.
    struct Position: Equatable {
        var inode: UInt64 = 0
        var offset: UInt64 = 0

        private static let version: UInt64 = 1

        init() {}

        /// Nil for what is not there, or is of another version.
        init?(_ path: String) {
            let file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
            guard file >= 0 else { return nil }
            defer { close(file) }
            var words: [UInt64] = [0, 0, 0]
            let count = words.withUnsafeMutableBytes { pread(file, $0.baseAddress, $0.count, 0) }
            guard count == 24, words[0] == Self.version else { return nil }
            (inode, offset) = (words[1], words[2])
        }

        func write(_ path: String) throws {
            let file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
            guard file >= 0 else { throw SwiftletError.system("open \(path)") }
            defer { close(file) }
            let words = [Self.version, inode, offset]
            guard words.withUnsafeBytes({ pwrite(file, $0.baseAddress, $0.count, 0) }) == 24 else {
                throw SwiftletError.system("write \(path)")
            }
        }
    }

    private struct State {
        /// Negative: none is open.
        var file: Int32 = -1
        var position: Position
        var noted: Position
    }

    /// Bytes that are read at once. Lines are shorter.
    static let pieceLimit = 64 << 10

    private let location: LogLocation
    private let positionPath: String
    private let state: Mutex<State>

    init(_ location: LogLocation, positionPath: String) {
        let position = Position(positionPath) ?? Position()
        (self.location, self.positionPath) = (location, positionPath)
        state = Mutex(State(position: position, noted: position))
    }

    deinit {
        let file = state.withLock { $0.file }
        if file >= 0 { close(file) }
    }

    /// Whole lines that follow; none: nothing follows yet.
    ///
    /// - Throws: `.failedPrecondition` without its directory.
    func read() throws -> [UInt8] {
        try state.withLock { state in
            let parent = try LogParent(location)
            if state.file < 0 { openFile(Self.first(parent, state.position.inode), parent, &state) }
            guard state.file >= 0 else { return [] }
            if let lines = try lines(&state) { return lines }
            guard let next = Self.next(parent, state.position.inode) else { return [] }
            // Its writer may have written to it until the next one was there.
            if let lines = try lines(&state) { return lines }
            close(state.file)
            (state.file, state.position) = (-1, Position())
            openFile(next, parent, &state)
            return try lines(&state) ?? []
        }
    }

    /// Notes how far it was read. What is read behind that is read again by who comes next.
    func note() throws {
        try state.withLock { state in
            guard state.position != state.noted else { return }
            try state.position.write(positionPath)
            state.noted = state.position
        }
    }

    private func openFile(_ name: String, _ parent: borrowing LogParent, _ state: inout State) {
        guard let file = parent.open(name) else { return }
        var status = stat()
        guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            close(file)
            return
        }
        state.file = file
        if UInt64(status.st_ino) != state.position.inode { state.position = Position() }
        state.position.inode = UInt64(status.st_ino)
    }

    /// The file that was read last, under whatever name it has now; else the present one.
    private static func first(_ parent: borrowing LogParent, _ inode: UInt64) -> String {
        for name in names(parent) where parent.inode(of: name) == inode { return name }
        return parent.name
    }

    /// The file behind the one that is read; nil while there is none.
    private static func next(_ parent: borrowing LogParent, _ inode: UInt64) -> String? {
        guard parent.inode(of: parent.name) != inode else { return nil }
        let names = names(parent)
        for (name, next) in zip(names, names.dropFirst()) where parent.inode(of: name) == inode { return next }
        return parent.inode(of: parent.name) == nil ? nil : parent.name
    }

    /// The oldest first. What the kubelet has compressed is no text, and is not read.
    private static func names(_ parent: borrowing LogParent) -> [String] {
        let name = parent.name
        let rotated = parent.rotated().map(\.text).filter { !$0.hasSuffix(".gz") }.map { "\(name).\($0)" }
        return rotated + (parent.inode(of: name) == nil ? [] : [name])
    }

    private func lines(_ state: inout State) throws -> [UInt8]? {
        let file = state.file
        var position = state.position
        defer { state.position = position }
        while true {
            let bytes = try [UInt8](unsafeUninitializedCapacity: Self.pieceLimit) { buffer, count in
                let read = pread(file, buffer.baseAddress, buffer.count, off_t(position.offset))
                guard read >= 0 else { throw location.failure("read") }
                count = read
            }
            guard let end = bytes.lastIndex(of: 0x0A) else {
                // What is longer is no line of a log.
                if bytes.count == Self.pieceLimit {
                    position.offset += UInt64(bytes.count)
                    continue
                }
                var status = stat()
                if bytes.isEmpty, fstat(file, &status) == 0, UInt64(max(0, status.st_size)) < position.offset {
                    // Somebody has cut it.
                    position.offset = 0
                    continue
                }
                return nil
            }
            position.offset += UInt64(end + 1)
            return Array(bytes[...end])
        }
    }
}

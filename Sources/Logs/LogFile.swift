import CLinux
import Errors
import Glibc
import Runtime

/// The open files behind a `ContainerLog`, used from one queue.
struct LogFile {
    var position: LogPosition
    /// Bytes of each source taken in, with those that wait for the end of their line.
    private(set) var taken = OutputOffsets()
    /// Gets the lines that are in the file.
    var collected: (any CollectedLog)?
    /// Bytes of each source that were dropped since a line named some.
    private var dropped = OutputOffsets()
    let location: LogLocation?
    let rotation: LogRotation?
    /// When the next rotation may be tried.
    var pauseEnd: ContinuousClock.Instant?
    var rotationFails = false
    var descriptor: Int32
    private(set) var positionDescriptor: Int32
    private var timestamp = LogTimestamp()
    private var stdout = LogLineEncoder(source: .stdout)
    private var stderr = LogLineEncoder(source: .stderr)
    /// Lines that are not in the file yet: those of the present call, and those of calls that failed.
    private(set) var buffer: [UInt8] = []

    private static let lockPatience = Duration.seconds(3)
    /// Bytes read at once when the log is compared with its position.
    private static let tailPiece = 1 << 20

    /// - Parameter rotation: nil: the file grows until somebody else renames it.
    /// - Throws: `.failedPrecondition` also while somebody else writes the log.
    init(location: LogLocation?, positionPath: String, rotation: LogRotation? = nil) throws {
        self.location = location
        self.rotation = rotation
        positionDescriptor = Glibc.open(positionPath, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard positionDescriptor >= 0 else {
            throw SwiftletError.system("open the log position \(positionPath)")
        }
        do {
            try Self.lock(positionDescriptor, positionPath)
            descriptor = try location?.open() ?? -1
        } catch {
            Glibc.close(positionDescriptor)
            throw error
        }
        position = LogPosition(readingFrom: positionDescriptor) ?? LogPosition()
        catchUp()
        // A position that was never noted would let the next daemon write lines again.
        guard position.write(to: positionDescriptor) else {
            let error = SwiftletError.system("note the log position in \(positionPath)")
            close()
            throw error
        }
    }

    /// Two writers would write lines twice. One that is ending is waited for, for a short time; its end gives the lock back. The lock is
    /// the open file's: one of the process would be lost when any of its descriptors of this file is closed (fcntl(2)).
    private static func lock(_ descriptor: Int32, _ path: String) throws(SwiftletError) {
        let end = ContinuousClock.now + lockPatience
        while clinux_lock_range(descriptor, 0, 0) != 0 {
            guard errno == EAGAIN || errno == EACCES || errno == EINTR else { throw .system("lock \(path)") }
            guard .now < end else { throw SwiftletError(.failedPrecondition, "the log of \(path) is written by somebody else still") }
            usleep(10_000)
        }
    }

    /// Stdout is a terminal's from now on. How far the log has come is noted before and after each write then, since it cannot be counted.
    mutating func readTerminal() {
        stdout.isTerminal = true
        stdout.isWithinLine = endsWithinLine
    }

    /// Whether the log's last line is a piece of stdout's, written by a process before this one.
    private var endsWithinLine: Bool {
        let count = min(position.logSize, UInt64(LogLineEncoder.maximumContent + 128))
        guard descriptor >= 0, count > 0 else { return false }
        var tail = [UInt8](repeating: 0, count: Int(count))
        guard pread(descriptor, &tail, tail.count, off_t(position.logSize - count)) == tail.count else { return false }
        let fields = tail.dropLast().split(separator: 0x0A, omittingEmptySubsequences: false).last?.split(separator: 0x20, maxSplits: 3)
        guard let fields, fields.count > 2 else { return false }
        return Array(fields[1]) == Array(StandardStream.stdout.rawValue.utf8) && Array(fields[2]) == [UInt8(ascii: "P")]
    }

    mutating func append(_ bytes: [UInt8], from source: StandardStream) throws {
        try requireOpen()
        let time = timestamp.now()
        nameDropped(of: source, time)
        bytes.withUnsafeBytes { raw in
            switch source {
            case .stdout: stdout.append(raw, timestamp: time, to: &buffer)
            case .stderr: stderr.append(raw, timestamp: time, to: &buffer)
            }
        }
        switch source {
        case .stdout: taken.stdout += UInt64(bytes.count)
        case .stderr: taken.stderr += UInt64(bytes.count)
        }
        try flush()
    }

    mutating func finish(_ source: StandardStream) throws {
        try requireOpen()
        let time = timestamp.now()
        nameDropped(of: source, time)
        switch source {
        case .stdout: stdout.finish(timestamp: time, to: &buffer)
        case .stderr: stderr.finish(timestamp: time, to: &buffer)
        }
        try flush()
    }

    /// Writes what a terminal's unfinished line has so far.
    mutating func writePart(of source: StandardStream) throws {
        try requireOpen()
        guard source == .stdout else { return }
        stdout.writePart(timestamp: timestamp.now(), to: &buffer)
        try flush()
    }

    /// Counts bytes of a terminal that were lost before they came here, and writes the line that says so.
    mutating func lose(_ count: UInt64, of source: StandardStream) throws {
        try requireOpen()
        guard source == .stdout else { return }
        let time = timestamp.now()
        stdout.breakLine(timestamp: time, to: &buffer)
        nameDropped(of: .stdout, time)
        stdout.writeDropped(count, timestamp: time, "were lost: nobody has read them in time", to: &buffer)
        taken.stdout += count
        try flush()
    }

    /// Counts bytes that are not to be written. They are safe at once; a line names them before the source's next one, or by
    /// ``nameDropped()``.
    mutating func drop(_ count: Int, from source: StandardStream) throws {
        try requireOpen()
        let time = timestamp.now()
        // What could not be written yet comes before them; where the disk is full, the guest keeps them too.
        switch source {
        case .stdout: stdout.breakLine(timestamp: time, to: &buffer)
        case .stderr: stderr.breakLine(timestamp: time, to: &buffer)
        }
        try flush()
        switch source {
        case .stdout:
            taken.stdout += UInt64(count)
            dropped.stdout += UInt64(count)
        case .stderr:
            taken.stderr += UInt64(count)
            dropped.stderr += UInt64(count)
        }
        try flush()
    }

    /// Writes the lines that name dropped bytes.
    mutating func nameDropped() throws {
        try requireOpen()
        let time = timestamp.now()
        for source in StandardStream.allCases { nameDropped(of: source, time) }
        try flush()
    }

    private mutating func nameDropped(of source: StandardStream, _ time: [UInt8]) {
        switch source {
        case .stdout where dropped.stdout > 0:
            stdout.writeDropped(dropped.stdout, timestamp: time, to: &buffer)
            dropped.stdout = 0
        case .stderr where dropped.stderr > 0:
            stderr.writeDropped(dropped.stderr, timestamp: time, to: &buffer)
            dropped.stderr = 0
        default: break
        }
    }

    /// Writes what is not in the file yet, whole lines or nothing, and notes the position.
    mutating func flush() throws {
        try requireOpen()
        if descriptor >= 0, !buffer.isEmpty {
            if stdout.isTerminal {
                position.intended = LogPosition.Intended(
                    logSize: position.logSize + UInt64(buffer.count), stdout: taken.stdout - UInt64(stdout.pendingCount),
                    dropped: dropped.stdout)
                position.write(to: positionDescriptor)
            }
            try writeAll()
            position.logSize += UInt64(buffer.count)
            position.intended = nil
        }
        if !buffer.isEmpty { collected?.take(buffer) }
        buffer.removeAll(keepingCapacity: true)
        position.stdout = taken.stdout - UInt64(stdout.pendingCount)
        position.stderr = taken.stderr - UInt64(stderr.pendingCount)
        position.dropped = dropped
        position.write(to: positionDescriptor)
    }

    /// Whether no line has been written in part only.
    var isBetweenLines: Bool { !stdout.isWithinLine && !stderr.isWithinLine }

    /// Goes on in the file that the log's path names now, made if it is missing. Every line that is not in the old file yet
    /// goes to the new one.
    ///
    /// - Throws: what keeps the new file from being opened; the old one stays in use then.
    mutating func reopen() throws {
        try requireOpen()
        guard let location else { return }
        let next = try location.open()
        var status = stat()
        guard fstat(next, &status) == 0 else {
            Glibc.close(next)
            throw SwiftletError(.internal, "container log \(location.description): \(String(cString: strerror(errno)))")
        }
        Glibc.close(descriptor)
        descriptor = next
        position.inode = UInt64(status.st_ino)
        position.logSize = UInt64(status.st_size)
        position.write(to: positionDescriptor)
    }

    mutating func close() {
        if descriptor >= 0 { Glibc.close(descriptor) }
        if positionDescriptor >= 0 { Glibc.close(positionDescriptor) }
        descriptor = -1
        positionDescriptor = -1
    }

    private func requireOpen() throws {
        guard positionDescriptor >= 0 else {
            throw SwiftletError(.failedPrecondition, "container log \(location?.description ?? "") is closed")
        }
    }

    /// - Throws: `.resourceExhausted` when the disk takes no more; what was written in part is taken back.
    private func writeAll() throws {
        var offset = 0
        while offset < buffer.count {
            let count = buffer.withUnsafeBytes { write(descriptor, $0.baseAddress.map { $0 + offset }, buffer.count - offset) }
            if count < 0 {
                if errno == EINTR { continue }
                let reason = String(cString: strerror(errno))
                ftruncate(descriptor, off_t(position.logSize))
                throw SwiftletError(.resourceExhausted, "container log \(location?.description ?? ""): write: \(reason)")
            }
            offset += count
        }
    }

    /// Brings the position up to the lines that the log really holds, and cuts off half a line.
    private mutating func catchUp() {
        defer { (taken, dropped) = (position.offsets, position.dropped) }
        guard descriptor >= 0 else { return }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return }
        if position.inode == status.st_ino {
            catchUp(in: descriptor, size: UInt64(status.st_size))
        } else {
            catchUpInRenamed()
        }
        position.logSize = UInt64(max(lseek(descriptor, 0, SEEK_END), 0))
        position.inode = UInt64(status.st_ino)
        position.write(to: positionDescriptor)
    }

    /// The file that the position was noted in was renamed, by a rotation here or by the kubelet's, and what was written to it before it was
    /// left may not have been noted.
    private mutating func catchUpInRenamed() {
        guard position.inode != 0, let location, let parent = try? LogParent(location) else { return }
        let names = parent.rotated().map { "\(parent.name).\($0.text)" }
        // Among the last ones, most probably.
        guard let name = names.last(where: { parent.inode(of: $0) == position.inode }), let renamed = parent.open(name) else { return }
        defer { Glibc.close(renamed) }
        catchUp(in: renamed, size: UInt64(max(lseek(renamed, 0, SEEK_END), 0)))
    }

    private mutating func catchUp(in descriptor: Int32, size: UInt64) {
        if let intended = position.intended {
            guard size < intended.logSize else { return position.fulfil(intended) }
            position.intended = nil
            // Part of it would come again.
            if size > position.logSize { ftruncate(descriptor, off_t(position.logSize)) }
            return
        }
        guard size > position.logSize else { return }
        while countPiece(of: descriptor) {}
        if position.logSize < size { ftruncate(descriptor, off_t(position.logSize)) }
    }

    /// Counts the lines of the next piece behind the position.
    ///
    /// - Returns: whether there was a whole line.
    private mutating func countPiece(of descriptor: Int32) -> Bool {
        var piece = [UInt8](repeating: 0, count: Self.tailPiece)
        let start = position.logSize
        let count = piece.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, off_t(start)) }
        piece.removeLast(piece.count - max(count, 0))
        let lines = position.advance(over: piece)
        position.logSize += UInt64(lines)
        return lines > 0
    }
}

import Errors
import Glibc

/// The open files behind a `ContainerLog`, used from one queue.
struct LogFile {
    private(set) var position: LogPosition
    /// Bytes of each source taken in, with those that wait for the end of their line.
    private(set) var taken: (stdout: UInt64, stderr: UInt64) = (0, 0)
    private let path: String?
    private var descriptor: Int32
    private var positionDescriptor: Int32
    private var timestamp = LogTimestamp()
    private var stdout = LogLineEncoder(source: .stdout)
    private var stderr = LogLineEncoder(source: .stderr)
    private var buffer: [UInt8] = []

    init(path: String?, positionPath: String) throws {
        self.path = path
        positionDescriptor = try Self.open(positionPath, O_RDWR | O_CREAT, what: "log position")
        do {
            descriptor = try path.map { try Self.open($0, O_RDWR | O_CREAT | O_APPEND, what: "container log") } ?? -1
        } catch {
            Glibc.close(positionDescriptor)
            throw error
        }
        position = LogPosition(readingFrom: positionDescriptor) ?? LogPosition()
        catchUp()
    }

    mutating func append(_ bytes: [UInt8], from source: LogSource) throws {
        let time = timestamp.now()
        buffer.removeAll(keepingCapacity: true)
        bytes.withUnsafeBytes { raw in
            switch source {
            case .stdout: stdout.append(raw, timestamp: time, to: &buffer)
            case .stderr: stderr.append(raw, timestamp: time, to: &buffer)
            }
        }
        try flush(source, taken: bytes.count)
    }

    mutating func finish(_ source: LogSource) throws {
        let time = timestamp.now()
        buffer.removeAll(keepingCapacity: true)
        switch source {
        case .stdout: stdout.finish(timestamp: time, to: &buffer)
        case .stderr: stderr.finish(timestamp: time, to: &buffer)
        }
        try flush(source, taken: 0)
    }

    mutating func close() {
        if descriptor >= 0 { Glibc.close(descriptor) }
        if positionDescriptor >= 0 { Glibc.close(positionDescriptor) }
        descriptor = -1
        positionDescriptor = -1
    }

    private mutating func flush(_ source: LogSource, taken count: Int) throws {
        guard positionDescriptor >= 0 else {
            throw SwiftletError(.failedPrecondition, "container log \(path ?? "") is closed")
        }
        switch source {
        case .stdout: taken.stdout += UInt64(count)
        case .stderr: taken.stderr += UInt64(count)
        }
        if descriptor >= 0, !buffer.isEmpty {
            try writeAll()
            position.logSize += UInt64(buffer.count)
        }
        position.stdout = taken.stdout - UInt64(stdout.pendingCount)
        position.stderr = taken.stderr - UInt64(stderr.pendingCount)
        position.write(to: positionDescriptor)
    }

    private func writeAll() throws {
        var offset = 0
        while offset < buffer.count {
            let count = buffer.withUnsafeBytes { write(descriptor, $0.baseAddress.map { $0 + offset }, buffer.count - offset) }
            if count < 0 {
                if errno == EINTR { continue }
                throw SwiftletError(.resourceExhausted, "container log \(path ?? ""): write: \(String(cString: strerror(errno)))")
            }
            offset += count
        }
    }

    /// Brings the position up to the lines that the log really holds, and cuts off half a line.
    private mutating func catchUp() {
        defer { taken = (position.stdout, position.stderr) }
        guard descriptor >= 0 else { return }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return }
        let size = UInt64(status.st_size)
        if position.inode == status.st_ino, size > position.logSize {
            var tail = [UInt8](repeating: 0, count: Int(size - position.logSize))
            let count = tail.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, off_t(position.logSize)) }
            tail.removeLast(tail.count - max(count, 0))
            let whole = position.logSize + UInt64(position.advance(over: tail))
            if whole < size { ftruncate(descriptor, off_t(whole)) }
            position.logSize = whole
        } else {
            position.logSize = size
        }
        position.inode = UInt64(status.st_ino)
        position.write(to: positionDescriptor)
    }

    private static func open(_ path: String, _ flags: Int32, what: String) throws -> Int32 {
        let descriptor = Glibc.open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0o640)
        guard descriptor >= 0 else {
            throw SwiftletError(.failedPrecondition, "open \(what) \(path): \(String(cString: strerror(errno)))")
        }
        return descriptor
    }
}

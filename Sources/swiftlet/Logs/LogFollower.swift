import Concurrency
import Errors
import Glibc
import Linux
import Synchronization

/// Reads a container's log file while it grows, over its rotation, on a thread of its own.
final class LogFollower: Sendable {
    private enum Phase {
        case following
        /// Nothing more is written: what the file holds is all.
        case finishing
        case cancelled
    }

    /// How long the file must rest before a finished log counts as read: the last lines may be on their way.
    static let settling: Int32 = 200

    private let path: String
    private let phase: Mutex<Phase>
    private let wakeUp: (read: Int32, write: Int32)

    /// - Parameter path: the log file; it may come into being later, in a directory that exists.
    /// - Throws: `SwiftletError` when the process has no descriptors left.
    init(path: String) throws {
        self.path = path
        phase = Mutex(.following)
        var pair: [Int32] = [-1, -1]
        guard pipe(&pair) == 0 else { throw SwiftletError.system("following \(path)") }
        for descriptor in pair { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        wakeUp = (pair[0], pair[1])
    }

    deinit {
        close(wakeUp.read)
        close(wakeUp.write)
    }

    /// Lets `follow` return when the file has been read to its end.
    func finish() { change(to: .finishing) }

    /// Lets `follow` return at once.
    func cancel() { change(to: .cancelled) }

    /// Passes the log's lines on, in order, until `finish` or `cancel`. Cancelling the task does as `cancel`.
    ///
    /// - Parameter selection: its last lines are those of the file that is there now; all that comes later is new.
    /// - Throws: `SwiftletError` when the directory or the file cannot be read.
    func follow(
        _ selection: LogSelection = LogSelection(), _ sink: @escaping @Sendable (CRILogDecoder.Piece) -> Void
    ) async throws {
        try await withTaskCancellationHandler {
            try await OwnThread.run { [self] in try followAndWait(selection, sink) }
        } onCancel: {
            cancel()
        }
    }

    /// Passes on the lines that the log has now.
    ///
    /// - Throws: `SwiftletError` when the file cannot be read; `notFound` when there is none.
    func readOnce(
        _ selection: LogSelection = LogSelection(), _ sink: @escaping @Sendable (CRILogDecoder.Piece) -> Void
    ) async throws {
        try await OwnThread.run { [path] in
            let file = try OpenLog(path: path)
            defer { file.close() }
            var decoder = CRILogDecoder(selection)
            // A container that writes faster than this reads has no last line.
            let end = file.size
            if let lines = selection.tail { try file.start(lines, &decoder) }
            while try file.advance(&decoder, upTo: end, sink) {}
        }
    }

    private func change(to next: Phase) {
        phase.withLock { if $0 != .cancelled { $0 = next } }
        var byte: UInt8 = 0
        _ = write(wakeUp.write, &byte, 1)
    }

    private func followAndWait(_ selection: LogSelection, _ sink: (CRILogDecoder.Piece) -> Void) throws {
        let directory = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
        let changes = inotify_init1(Int32(IN_CLOEXEC) | Int32(IN_NONBLOCK))
        guard changes >= 0 else { throw SwiftletError.system("following \(path)") }
        defer { close(changes) }
        let mask = UInt32(IN_CREATE) | UInt32(IN_MODIFY) | UInt32(IN_MOVED_TO)
        guard inotify_add_watch(changes, directory.isEmpty ? "/" : directory, mask) >= 0 else {
            throw SwiftletError.system("following the log directory \(directory)")
        }

        var decoder = CRILogDecoder(selection)
        var file = try OpenLog.present(path)
        defer { file?.close() }
        if let lines = selection.tail { try file?.start(lines, &decoder) }
        while true {
            var progress = false
            if file == nil, let next = try OpenLog.present(path) {
                file = next
                decoder.startFile()
                progress = true
            }
            // Looked at before the file's end is: what was written to it before another took its name is read.
            let isReplaced = file?.isReplaced == true
            while phase.withLock({ $0 }) != .cancelled, try file?.advance(&decoder, sink) == true { progress = true }
            if isReplaced {
                let next = file?.successor()
                file?.close()
                file = next
                decoder.startFile()
                continue
            }
            switch phase.withLock({ $0 }) {
            case .cancelled: return
            case .following: wait(for: [changes, wakeUp.read], milliseconds: 1000)
            case .finishing:
                if !wait(for: [changes], milliseconds: Self.settling), !progress { return }
            }
        }
    }

    /// - Returns: whether something happened in time.
    @discardableResult
    private func wait(for descriptors: [Int32], milliseconds: Int32) -> Bool {
        var polled = descriptors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        guard poll(&polled, nfds_t(polled.count), milliseconds) > 0 else { return false }
        var scratch = [UInt8](repeating: 0, count: 4096)
        for descriptor in polled where descriptor.revents != 0 { _ = read(descriptor.fd, &scratch, scratch.count) }
        return true
    }
}

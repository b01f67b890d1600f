import CLinux
import Concurrency
import Errors
import Glibc
import Synchronization

/// Tells of files that have been written to (inotify(7)). A thread waits for all of them; an idle file costs nothing.
///
/// A guest's console is written byte by byte, and an event for each byte would cost QEMU, which makes them, a fifth of its time: a file is
/// watched for one event at a time, and again a moment later.
final class FileChanges: Sendable {
    private struct Listener {
        let path: String
        let tell: @Sendable () -> Void
        /// Nil while the file is not watched: from its event until it is watched again.
        var descriptor: Int32?
    }

    private struct State {
        var nextTag: UInt64 = 0
        var listeners: [UInt64: Listener] = [:]
        /// Listeners of each file; those of one file have one descriptor.
        var tags: [Int32: Set<UInt64>] = [:]
    }

    struct Watch: Sendable {
        fileprivate let tag: UInt64
    }

    /// Of the process.
    static let shared = Result { try FileChanges() }

    /// How long what follows a change is left to come together.
    private static let pause: useconds_t = 5_000
    /// Milliseconds from one look at files that are not watched to the next.
    private static let longPause: Int32 = 100
    /// struct inotify_event: wd, mask, cookie, len, and a name of `len` bytes, which is for directories.
    private static let headSize = 16

    private let queue: Int32
    private let state = Mutex(State())

    private init() throws {
        queue = inotify_init1(Int32(IN_CLOEXEC))
        guard queue >= 0 else { throw SwiftletError.system("watch files") }
        try OwnThread.start { [self] in
            clinux_name_thread("console files")
            // Files that are not watched at the moment: they are gone, or the node's user has no more watches.
            var unwatched: Set<UInt64> = []
            while let left = takeChanges(unwatched) { unwatched = left }
        }
    }

    /// Calls `listener` after changes from now on, and now and then without one. It must not block.
    func watch(_ path: String, _ listener: @escaping @Sendable () -> Void) throws -> Watch {
        // Not locked apart: an ending watch of the same file would take this one away.
        try state.withLock { state in
            let descriptor = try addWatch(path)
            state.nextTag += 1
            state.listeners[state.nextTag] = Listener(path: path, tell: listener, descriptor: descriptor)
            state.tags[descriptor, default: []].insert(state.nextTag)
            return Watch(tag: state.nextTag)
        }
    }

    func unwatch(_ watch: Watch) {
        state.withLock { state in
            guard let descriptor = state.listeners.removeValue(forKey: watch.tag)?.descriptor else { return }
            state.tags[descriptor]?.remove(watch.tag)
            guard state.tags[descriptor]?.isEmpty == true else { return }
            state.tags[descriptor] = nil
            // Fails where the kernel has removed it, after an event that is still to be read.
            inotify_rm_watch(queue, descriptor)
        }
    }

    /// Files that are watched.
    var count: Int { state.withLock { Set($0.listeners.values.map(\.path)).count } }

    private func addWatch(_ path: String) throws -> Int32 {
        let descriptor = inotify_add_watch(queue, path, UInt32(IN_MODIFY) | UInt32(IN_ONESHOT))
        guard descriptor >= 0 else { throw SwiftletError.system("watch \(path)") }
        return descriptor
    }

    /// Waits for changes, tells of each file, and tells of it again when it is watched again: it may have changed meanwhile.
    ///
    /// - Parameter unwatched: listeners of files that could not be watched again, which are looked at from time to time.
    /// - Returns: those that cannot be now; nil when no more changes can be read.
    private func takeChanges(_ unwatched: Set<UInt64>) -> Set<UInt64>? {
        guard let changed = readChanges(within: unwatched.isEmpty ? -1 : Self.longPause) else { return nil }
        let tags = state.withLock { state in
            changed.flatMap { descriptor in
                let tags = state.tags.removeValue(forKey: descriptor) ?? []
                for tag in tags { state.listeners[tag]?.descriptor = nil }
                return tags
            }
        }
        tell(tags)
        if !tags.isEmpty { usleep(Self.pause) }
        let due = unwatched.union(tags)
        let left = state.withLock { state in due.filter { !watchAgain($0, &state) } }
        tell(due)
        return left
    }

    private func watchAgain(_ tag: UInt64, _ state: inout State) -> Bool {
        guard let path = state.listeners[tag]?.path else { return true }
        guard let descriptor = try? addWatch(path) else { return false }
        state.listeners[tag]?.descriptor = descriptor
        state.tags[descriptor, default: []].insert(tag)
        return true
    }

    private func tell(_ tags: some Sequence<UInt64>) {
        let listeners = state.withLock { state in tags.compactMap { state.listeners[$0]?.tell } }
        for listener in listeners { listener() }
    }

    /// Descriptors of the files that have changed; none when nothing has in time, nil when reading has failed. After an overflow these are
    /// all.
    ///
    /// - Parameter milliseconds: negative: however long it takes.
    private func readChanges(within milliseconds: Int32) -> Set<Int32>? {
        var ready = pollfd(fd: queue, events: Int16(POLLIN), revents: 0)
        guard poll(&ready, 1, milliseconds) > 0 else { return [] }
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        let count = read(queue, &buffer, buffer.count)
        guard count > 0 else { return errno == EINTR ? [] : nil }
        var changed: Set<Int32> = []
        var offset = 0
        while offset + Self.headSize <= count {
            let (descriptor, mask, length) = buffer.withUnsafeBytes {
                (
                    $0.loadUnaligned(fromByteOffset: offset, as: Int32.self), $0.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self),
                    $0.loadUnaligned(fromByteOffset: offset + 12, as: UInt32.self)
                )
            }
            if mask & UInt32(IN_Q_OVERFLOW) != 0 { return state.withLock { Set($0.tags.keys) } }
            changed.insert(descriptor)
            offset += Self.headSize + Int(length)
        }
        return changed
    }
}

/// Wakes who reads a file when there may be more of it, or time has passed.
final class FileWake: Sendable {
    private let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation
    private let changes: FileChanges
    private let watch: FileChanges.Watch

    init(_ file: ConsoleFile) throws {
        // What comes before anybody waits is not lost.
        let (stream, continuation) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
        (self.stream, self.continuation) = (stream, continuation)
        changes = try FileChanges.shared.get()
        watch = try changes.watch(file.watchedPath) { continuation.yield() }
    }

    deinit {
        changes.unwatch(watch)
        continuation.finish()
    }

    func wake() { continuation.yield() }

    /// Returns when something may have come since it last returned, after that time, and when the caller is cancelled.
    func wait(_ longest: Duration? = nil) async {
        let timer = longest.map { longest in
            Task { [continuation] in
                try? await Task.sleep(for: longest)
                if !Task.isCancelled { continuation.yield() }
            }
        }
        defer { timer?.cancel() }
        for await _ in stream { break }
    }
}

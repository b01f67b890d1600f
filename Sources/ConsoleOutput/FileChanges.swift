import CLinux
import Concurrency
import Errors
import Glibc
import Synchronization

/// Tells of files that have been written to (inotify(7)). A thread waits for all of them; an idle file costs nothing.
final class FileChanges: Sendable {
    private struct State {
        var nextTag: UInt64 = 0
        var listeners: [Int32: [UInt64: @Sendable () -> Void]] = [:]
    }

    struct Watch: Sendable {
        fileprivate let descriptor: Int32
        fileprivate let tag: UInt64
    }

    /// Of the process.
    static let shared = Result { try FileChanges() }

    /// How long what follows a change is left to come together: a guest writes its console byte by byte.
    private static let pause: useconds_t = 5_000
    /// struct inotify_event: wd, mask, cookie, len, and a name of `len` bytes, which is for directories.
    private static let headSize = 16

    private let queue: Int32
    private let state = Mutex(State())

    private init() throws {
        queue = inotify_init1(Int32(IN_CLOEXEC))
        guard queue >= 0 else { throw SwiftletError.system("watch files") }
        try OwnThread.start { [self] in
            clinux_name_thread("console files")
            while takeChanges() { usleep(Self.pause) }
        }
    }

    /// Calls `listener` after each change from now on. It must not block.
    func watch(_ path: String, _ listener: @escaping @Sendable () -> Void) throws -> Watch {
        // Not locked apart: an ending watch of the same file would take this one away.
        try state.withLock { state in
            let descriptor = inotify_add_watch(queue, path, UInt32(IN_MODIFY))
            guard descriptor >= 0 else { throw SwiftletError.system("watch \(path)") }
            state.nextTag += 1
            state.listeners[descriptor, default: [:]][state.nextTag] = listener
            return Watch(descriptor: descriptor, tag: state.nextTag)
        }
    }

    func unwatch(_ watch: Watch) {
        state.withLock { state in
            state.listeners[watch.descriptor]?[watch.tag] = nil
            guard state.listeners[watch.descriptor]?.isEmpty == true else { return }
            state.listeners[watch.descriptor] = nil
            inotify_rm_watch(queue, watch.descriptor)
        }
    }

    /// Files that are watched.
    var count: Int { state.withLock { $0.listeners.count } }

    /// Waits for changes and tells of each file once.
    private func takeChanges() -> Bool {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        let count = read(queue, &buffer, buffer.count)
        guard count > 0 else { return errno == EINTR }
        var changed: Set<Int32> = []
        var hasOverflown = false
        var offset = 0
        while offset + Self.headSize <= count {
            let (descriptor, mask, length) = buffer.withUnsafeBytes {
                (
                    $0.loadUnaligned(fromByteOffset: offset, as: Int32.self), $0.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self),
                    $0.loadUnaligned(fromByteOffset: offset + 12, as: UInt32.self)
                )
            }
            changed.insert(descriptor)
            if mask & UInt32(IN_Q_OVERFLOW) != 0 { hasOverflown = true }
            offset += Self.headSize + Int(length)
        }
        let listeners = state.withLock { [changed, hasOverflown] state in
            hasOverflown ? state.listeners.values.flatMap(\.values) : changed.flatMap { state.listeners[$0].map { Array($0.values) } ?? [] }
        }
        for listener in listeners { listener() }
        return true
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

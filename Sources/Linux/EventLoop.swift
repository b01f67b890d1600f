import CLinux
import Concurrency
import Errors
import Glibc
import Synchronization

/// One thread that waits for many descriptors and timers (epoll), and runs their handlers one after the other.
///
/// Handlers must not block. Safe to use from any thread; the thread ends with the process.
public final class EventLoop: Sendable {
    /// What a descriptor is ready for. Hang-ups and errors are reported as both, so that the next read or write shows them.
    public struct Readiness: OptionSet, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        public static let readable = Readiness(rawValue: UInt32(CLINUX_EPOLLIN))
        public static let writable = Readiness(rawValue: UInt32(CLINUX_EPOLLOUT))
    }

    public typealias Handler = @Sendable (Readiness) -> Void
    public typealias Job = @Sendable () -> Void

    /// A watched descriptor. Unlike the number of a descriptor it is never used twice.
    public struct Watch: Sendable, Hashable { let tag: UInt64 }
    /// A job that waits for its time.
    public struct Timer: Sendable, Hashable { let tag: UInt64 }

    private struct State {
        var nextTag: UInt64 = 1
        var handlers: [UInt64: Handler] = [:]
        var jobs: [Job] = []
        /// By time, the next one last.
        var timers: [(at: ContinuousClock.Instant, tag: UInt64, job: Job)] = []
    }

    private let epoll: Int32
    private let wake: Int32
    private let state = Mutex(State())
    /// The loop's own; 0 before it runs.
    private let thread = Atomic<pthread_t>(0)

    /// Bytes that handlers may use as a read buffer while they run: only the loop's own thread, which runs one handler at a time, touches
    /// them.
    nonisolated(unsafe) let scratch: UnsafeMutableRawBufferPointer

    /// Starts the thread.
    ///
    /// - Parameters:
    ///   - name: of the thread, at most 15 bytes of it show.
    ///   - readSize: bytes that are read of a descriptor at once, at most.
    /// - Throws: the errno of epoll_create, eventfd or pthread_create.
    public init(name: String, readSize: Int = 64 << 10) throws(SwiftletError) {
        scratch = .allocate(byteCount: readSize, alignment: 4096)
        epoll = clinux_epoll_create()
        guard epoll >= 0 else { throw .system("event loop \(name): epoll_create") }
        wake = clinux_eventfd()
        guard wake >= 0 else { throw .system("event loop \(name): eventfd") }
        guard clinux_epoll_ctl(epoll, EPOLL_CTL_ADD, wake, Readiness.readable.rawValue, 0) == 0 else {
            throw .system("event loop \(name): epoll_ctl")
        }
        do {
            try OwnThread.start {
                clinux_name_thread(name)
                self.thread.store(pthread_self(), ordering: .relaxed)
                self.run()
            }
        } catch {
            throw SwiftletError.wrap(error, "event loop \(name)")
        }
    }

    /// Watches a descriptor until ``unwatch(_:descriptor:)``. With an empty `interest` nothing is reported, not even a hang-up.
    public func watch(_ descriptor: Int32, _ interest: Readiness, handler: @escaping Handler) throws(SwiftletError) -> Watch {
        let tag = state.withLock { state in
            defer { state.nextTag += 1 }
            state.handlers[state.nextTag] = handler
            return state.nextTag
        }
        if !interest.isEmpty, clinux_epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, interest.rawValue, tag) != 0 {
            let error = SwiftletError.system("event loop: watching descriptor \(descriptor)")
            state.withLock { state in _ = state.handlers.removeValue(forKey: tag) }
            throw error
        }
        return Watch(tag: tag)
    }

    /// Changes what is waited for. An idle descriptor is taken out of epoll, which would report its hang-up for ever.
    public func change(_ watch: Watch, descriptor: Int32, from old: Readiness, to new: Readiness) {
        guard old != new else { return }
        let operation = old.isEmpty ? EPOLL_CTL_ADD : new.isEmpty ? EPOLL_CTL_DEL : EPOLL_CTL_MOD
        _ = clinux_epoll_ctl(epoll, operation, descriptor, new.rawValue, watch.tag)
    }

    /// Forgets a descriptor, which the caller may close after this. A handler that already runs goes on to its end.
    public func unwatch(_ watch: Watch, descriptor: Int32) {
        _ = clinux_epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, 0, 0)
        // Released outside of the lock: it may be the last reference to its owner.
        let handler = state.withLock { $0.handlers.removeValue(forKey: watch.tag) }
        withExtendedLifetime(handler) {}
    }

    /// Runs a job on the loop's thread, after those already waiting.
    public func execute(_ job: @escaping Job) {
        let first = state.withLock { state in
            state.jobs.append(job)
            return state.jobs.count == 1
        }
        if first { eventfd_write(wake, 1) }
    }

    /// Runs a job on the loop's thread at a time.
    @discardableResult
    public func schedule(at time: ContinuousClock.Instant, _ job: @escaping Job) -> Timer {
        let (tag, isNext) = state.withLock { state in
            defer { state.nextTag += 1 }
            let index = state.timers.firstIndex { $0.at <= time } ?? state.timers.count
            state.timers.insert((time, state.nextTag, job), at: index)
            return (state.nextTag, index == state.timers.count - 1)
        }
        // The loop's own thread looks at the timers before it waits again.
        if isNext, pthread_equal(pthread_self(), thread.load(ordering: .relaxed)) == 0 { eventfd_write(wake, 1) }
        return Timer(tag: tag)
    }

    /// Forgets a timer. One that is just running goes on to its end.
    public func cancel(_ timer: Timer) {
        let job = state.withLock { state in
            state.timers.firstIndex { $0.tag == timer.tag }.map { state.timers.remove(at: $0).job }
        }
        withExtendedLifetime(job) {}
    }

    private func run() {
        var events = [epoll_event](repeating: epoll_event(), count: 64)
        while true {
            let count = clinux_epoll_wait(epoll, &events, Int32(events.count), waitLimit())
            for index in 0..<max(0, Int(count)) { deliver(&events[index]) }
            runDueJobs()
        }
    }

    /// Nanoseconds until the next timer, at most an hour; -1 without one.
    private func waitLimit() -> Int64 {
        let next = state.withLock { $0.jobs.isEmpty ? $0.timers.last?.at : .now }
        guard let next else { return -1 }
        let left = (next - .now).components
        guard left.seconds >= 0, left.attoseconds > 0 || left.seconds > 0 else { return 0 }
        return min(left.seconds, 3600) * 1_000_000_000 + left.attoseconds / 1_000_000_000 + 1
    }

    private func deliver(_ event: inout epoll_event) {
        let tag = clinux_epoll_tag(&event)
        guard tag != 0 else {
            var value: eventfd_t = 0
            eventfd_read(wake, &value)
            return
        }
        let handler = state.withLock { $0.handlers[tag] }
        let bits = clinux_epoll_events(&event)
        let broken = bits & UInt32(CLINUX_EPOLLERR | CLINUX_EPOLLHUP) != 0
        handler?(broken ? [.readable, .writable] : Readiness(rawValue: bits))
    }

    private func runDueJobs() {
        let due = state.withLock { state in
            var due = state.jobs
            state.jobs = []
            let now = ContinuousClock.now
            while let timer = state.timers.last, timer.at <= now {
                due.append(timer.job)
                state.timers.removeLast()
            }
            return due
        }
        for job in due { job() }
    }
}

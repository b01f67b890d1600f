import CLinux
import Concurrency
import Errors
import Glibc
import Linux
import Synchronization

/// How a process ended.
struct ProcessExit: Sendable, Equatable {
    /// 0...255; 128 + signal for a process ended by a signal.
    var code: UInt32
    /// Unix time in nanoseconds.
    var at: Int64
    /// The process's, in the agent's PID namespace.
    var pid: pid_t

    init(code: UInt32, at: Int64, pid: pid_t = 0) {
        self.code = code
        self.at = at
        self.pid = pid
    }

    /// - Parameter child: as of waitid(2).
    init(_ child: siginfo_t) {
        let status = UInt32(truncatingIfNeeded: child._sifields._sigchld.si_status)
        code = child.si_code == Int32(CLD_EXITED) ? status & 0xff : 128 + status
        at = WallClock.now()
        pid = child._sifields._sigchld.si_pid
    }
}

/// The only caller of wait in the agent: collects exited children and reports them to whoever launched them.
final class Reaper: Sendable {
    /// Whose exits are collected.
    enum Scope: Sendable {
        /// Every child, orphans of the whole guest included: the duty of PID 1.
        case everything
        /// What was launched here; for an agent that runs as an ordinary process.
        case launched
    }

    typealias Listener = @Sendable (ProcessExit) -> Void

    private struct State {
        var listeners: [pid_t: Listener] = [:]
        /// Launches that have not said their pid yet.
        var launching = 0
        /// Exits of unknown children while a launch is under way: one of them may be its child.
        var unclaimed: [pid_t: ProcessExit] = [:]
    }

    private let scope: Scope
    private let loop: EventLoop
    private let state = Mutex(State())
    /// Wakes the thread that waits for a first child.
    private let launched = clinux_semaphore()

    init(scope: Scope, loop: EventLoop) throws(SwiftletError) {
        self.scope = scope
        self.loop = loop
        guard launched >= 0 else { throw .system("reaper: eventfd") }
        guard scope == .everything else { return }
        do {
            try OwnThread.start { self.reapEverything() }
        } catch {
            throw SwiftletError.wrap(error, "reaper")
        }
    }

    /// Runs `body`, which starts a child, and calls `exited` once with that child's exit, even if it has ended already.
    func launch(
        _ body: () throws(SwiftletError) -> pid_t, exited: @escaping Listener
    ) throws(SwiftletError) -> pid_t {
        state.withLock { $0.launching += 1 }
        do {
            let pid = try body()
            let exit = state.withLock { state in
                let exit = state.unclaimed.removeValue(forKey: pid)
                if exit == nil { state.listeners[pid] = exited }
                endLaunch(&state)
                return exit
            }
            if let exit { exited(exit) }
            noticeChildren()
            if scope == .launched { try watch(pid) }
            return pid
        } catch {
            state.withLock { endLaunch(&$0) }
            // The failed launch may have left a child behind.
            noticeChildren()
            throw error
        }
    }

    /// Has the reaper see children that nobody launched here: those that wait for their start, and what holds namespaces.
    func noticeChildren() {
        if scope == .everything { eventfd_write(launched, 1) }
    }

    private func endLaunch(_ state: inout State) {
        state.launching -= 1
        if state.launching == 0 { state.unclaimed = [:] }
    }

    private func reapEverything() {
        clinux_name_thread("reaper")
        while true {
            var child = siginfo_t()
            if waitid(P_ALL, 0, &child, WEXITED | WNOWAIT) == 0 {
                if child.hasEnded { collect(child) } else { Self.overlook(child) }
            } else if errno == ECHILD {
                // Without children there are no orphans to come either, until something is launched.
                var count: eventfd_t = 0
                eventfd_read(launched, &count)
            }
        }
    }

    /// A child that is held before its start shows as trapped to every wait of its tracer's process, once.
    private static func overlook(_ child: siginfo_t) {
        var stop = siginfo_t()
        waitid(P_PID, id_t(child._sifields._sigchld.si_pid), &stop, WSTOPPED | WNOHANG)
    }

    /// Records the exit before the pid becomes free for another process.
    private func collect(_ child: siginfo_t) {
        let pid = child._sifields._sigchld.si_pid
        ended(pid, ProcessExit(child))
        var status: Int32 = 0
        waitpid(pid, &status, WNOHANG)
    }

    private func ended(_ pid: pid_t, _ exit: ProcessExit) {
        let listener = state.withLock { state in
            let listener = state.listeners.removeValue(forKey: pid)
            if listener == nil && state.launching > 0 { state.unclaimed[pid] = exit }
            return listener
        }
        listener?(exit)
    }

    private func watch(_ pid: pid_t) throws(SwiftletError) {
        let descriptor = clinux_pidfd_open(pid, 0)
        guard descriptor >= 0 else {
            // Before Linux 5.3 only a thread can wait for one child.
            guard errno == ENOSYS else { throw .system("reaper: pidfd of \(pid)") }
            do {
                return try OwnThread.start { [self] in
                    var child = siginfo_t()
                    while waitid(P_PID, id_t(pid), &child, WEXITED | WNOWAIT) != 0 { guard errno == EINTR else { return } }
                    collect(child)
                }
            } catch {
                throw SwiftletError.wrap(error, "reaper")
            }
        }
        let watch = Mutex<EventLoop.Watch?>(nil)
        let handle = try loop.watch(descriptor, []) { [self] _ in
            var child = siginfo_t()
            guard waitid(P_PID, id_t(pid), &child, WEXITED | WNOWAIT | WNOHANG) == 0, child._sifields._sigchld.si_pid == pid else { return }
            if let watch = watch.withLock({ $0 }) { loop.unwatch(watch, descriptor: descriptor) }
            close(descriptor)
            collect(child)
        }
        watch.withLock { $0 = handle }
        loop.change(handle, descriptor: descriptor, from: [], to: .readable)
    }
}

extension siginfo_t {
    /// Of waitid(2): the child has ended, as opposed to stopped.
    fileprivate var hasEnded: Bool { [Int32(CLD_EXITED), Int32(CLD_KILLED), Int32(CLD_DUMPED)].contains(si_code) }
}

import CLinux
import Errors
import Glibc

/// A process, distinguished from every later one that gets the same number.
public struct ProcessIdentity: Sendable, Codable, Hashable {
    public var pid: Int32
    /// Clock ticks since boot at which the process started: field 22 of /proc/PID/stat, proc(5).
    public var startTime: UInt64

    public init(pid: Int32, startTime: UInt64) {
        self.pid = pid
        self.startTime = startTime
    }

    /// The identity of a process that runs now; nil when there is none, or only its zombie.
    public static func of(_ pid: Int32) -> ProcessIdentity? {
        guard let fields = statFields(pid), fields.isRunning else { return nil }
        return ProcessIdentity(pid: pid, startTime: fields.startTime)
    }

    /// Whether this very process still runs. A zombie does not.
    public var isAlive: Bool { Self.of(pid) == self }

    /// Sends a signal to this very process, never to another that inherited its number.
    ///
    /// - Returns: false when the process is gone.
    /// - Throws: `permissionDenied` and other errnos of pidfd_send_signal(2).
    @discardableResult
    public func signal(_ number: Int32) throws(SwiftletError) -> Bool {
        let descriptor = clinux_pidfd_open(pid, 0)
        guard descriptor >= 0 else {
            if errno == ESRCH { return false }
            if errno == ENOSYS { return try signalByNumber(number) }
            throw .system("opening process \(pid)")
        }
        defer { close(descriptor) }
        // The descriptor is pinned to one process; only now does the start time say which.
        guard isAlive else { return false }
        if clinux_pidfd_send_signal(descriptor, number) == 0 { return true }
        if errno == ESRCH { return false }
        throw .system("sending signal \(number) to process \(pid)")
    }

    /// Sends SIGKILL. A process that is gone already, or cannot be signalled, is the caller's to notice by `isAlive`.
    public func kill() {
        _ = try? signal(SIGKILL)
    }

    /// Blocks until the process has ended or the time is up: never on the cooperative pool.
    ///
    /// - Returns: whether it has ended.
    public func waitForExit(_ limit: Duration) -> Bool {
        let end = ContinuousClock.now + limit
        let descriptor = clinux_pidfd_open(pid, 0)
        defer { if descriptor >= 0 { close(descriptor) } }
        while isAlive {
            let left = ContinuousClock.now.duration(to: end)
            guard left > .zero else { return false }
            guard descriptor >= 0 else {
                usleep(5_000)
                continue
            }
            var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            poll(&waiting, 1, Int32(max(1, min(left.milliseconds, 1000))))
        }
        return true
    }

    /// Collects the zombie of this very process where it is a child of this one; another's is its own parent's to collect.
    ///
    /// By pidfd: the number may be another child's by now, and that one's status belongs to whoever started it.
    public func reap() {
        let descriptor = clinux_pidfd_open(pid, 0)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        // The descriptor is pinned to one process, zombie or not; only now does the start time say which.
        guard Self.statFields(pid)?.startTime == startTime else { return }
        var information = siginfo_t()
        waitid(P_PIDFD, id_t(descriptor), &information, WEXITED | WNOHANG)
    }

    /// Kernels before 5.3 have no pidfds: the check and the signal are two steps there.
    private func signalByNumber(_ number: Int32) throws(SwiftletError) -> Bool {
        guard isAlive else { return false }
        if Glibc.kill(pid, number) == 0 { return true }
        if errno == ESRCH { return false }
        throw .system("sending signal \(number) to process \(pid)")
    }

    private static func statFields(_ pid: Int32) -> (isRunning: Bool, startTime: UInt64)? {
        guard pid > 0, let line = KernelFile.bytes("/proc/\(pid)/stat", limit: 4096) else { return nil }
        return parse(line)
    }

    /// Reads the state (field 3) and the start time (field 22) of a line of /proc/PID/stat.
    ///
    /// The command name, field 2, is the process's own choice and may hold spaces and parentheses: fields are counted
    /// from the last closing one.
    static func parse(_ line: [UInt8]) -> (isRunning: Bool, startTime: UInt64)? {
        guard let nameEnd = line.lastIndex(of: UInt8(ascii: ")")) else { return nil }
        let fields = line[(nameEnd + 1)...].split(separator: UInt8(ascii: " "))
        guard fields.count > 19, let state = fields[0].first, let start = UInt64(String(decoding: fields[19], as: UTF8.self))
        else { return nil }
        return (state != UInt8(ascii: "Z") && state != UInt8(ascii: "X"), start)
    }
}

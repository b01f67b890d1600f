import CLinux
import Errors
import Glibc

extension DetachedProcess {
    /// Starts a program and returns when it is ready: it writes one byte to the descriptor that `--ready-fd` names.
    ///
    /// - Parameters:
    ///   - log: the file that gets the program's output.
    ///   - what: what errors call it.
    /// - Throws: the errno of a program that cannot be started; `unavailable` with the end of its log when it ends at once;
    ///   `deadlineExceeded`. It does not run after an error.
    public static func startAndWait(
        _ binary: String, _ arguments: [String], log: String, what: String, within timeout: Duration
    ) throws -> ProcessIdentity {
        let starting = try StartingProcess(binary, arguments + ["--ready-fd", "3"], log: log, what: what)
        do {
            try starting.waitUntilReady(timeout)
            guard let identity = ProcessIdentity.of(starting.child.pid) else {
                throw SwiftletError(.unavailable, "\(what) \(binary) ended after it was ready")
            }
            return identity
        } catch {
            starting.child.killAndReap()
            throw error
        }
    }
}

/// A process that was started and has not said yet that it is ready.
private struct StartingProcess {
    let child: DetachedProcess
    /// Gets one byte from the child's descriptor 3.
    private let ready: Int32
    private let name: String
    private let log: String

    init(_ binary: String, _ arguments: [String], log: String, what: String) throws {
        let step = "starting \(what) \(binary)"
        let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
        guard null >= 0 else { throw SwiftletError.system("\(step): opening /dev/null") }
        defer { close(null) }
        let output = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
        guard output >= 0 else { throw SwiftletError.system("\(step): opening \(log)") }
        defer { close(output) }
        var pipe: [Int32] = [-1, -1]
        guard clinux_pipe2(&pipe, O_CLOEXEC) == 0 else { throw SwiftletError.system("\(step): pipe") }
        defer { close(pipe[1]) }
        do {
            child = try DetachedProcess(binary, arguments, descriptors: [null, output, output, pipe[1]])
        } catch {
            close(pipe[0])
            throw error
        }
        name = "\(what) \(binary)"
        self.log = log
        ready = pipe[0]
    }

    /// Blocks until the child has written its byte.
    func waitUntilReady(_ timeout: Duration) throws {
        defer { close(ready) }
        let end = ContinuousClock.now + timeout
        while true {
            let left = ContinuousClock.now.duration(to: end)
            guard left > .zero else {
                throw SwiftletError(.deadlineExceeded, "\(name) was not ready within \(timeout); it said: \(said())")
            }
            var waiting = pollfd(fd: ready, events: Int16(POLLIN), revents: 0)
            let (seconds, fraction) = left.components
            guard poll(&waiting, 1, Int32(min(seconds, 3600) * 1000 + fraction / 1_000_000_000_000_000 + 1)) > 0 else { continue }
            var byte: UInt8 = 0
            if read(ready, &byte, 1) == 1 { return }
            throw SwiftletError(.unavailable, "\(name) ended instead; it said: \(said())")
        }
    }

    /// The end of the log, for an error message.
    private func said() -> String {
        let descriptor = open(log, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "nothing" }
        defer { close(descriptor) }
        lseek(descriptor, max(0, lseek(descriptor, 0, SEEK_END) - 1024), SEEK_SET)
        let bytes = [UInt8](unsafeUninitializedCapacity: 1024) { buffer, count in
            count = max(0, read(descriptor, buffer.baseAddress, buffer.count))
        }
        return bytes.isEmpty ? "nothing" : String(decoding: bytes, as: UTF8.self)
    }
}

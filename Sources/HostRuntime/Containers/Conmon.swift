import CLinux
import Concurrency
import Errors
import Foundation
import Glibc
import Linux
import Synchronization

/// conmon(8), which makes a container by its OCI runtime, holds its streams, writes its log and notes how it has ended: it outlives the
/// daemon.
struct Conmon: Sendable {
    var path: String
    var runtime: OCIRuntime
    var usesSystemd: Bool
    var container: String
    var bundle: ContainerBundle
    /// Empty: no log.
    var logPath: String
    var terminal: Bool
    var stdin: Bool
    var stdinOnce: Bool

    var arguments: [String] {
        var arguments = [
            "--cid", container, "--cuuid", container, "--name", container, "--runtime", runtime.path, "--bundle", bundle.directory,
            "--container-pidfile", bundle.processFile, "--conmon-pidfile", bundle.monitorFile, "--exit-dir", bundle.exits,
            "--persist-dir", bundle.directory, "--full-attach", "--log-path", logPath.isEmpty ? "none:" : "k8s-file:\(logPath)",
            "--log-level", "warning",
        ]
        for argument in runtime.globalArguments { arguments += ["--runtime-arg", argument] }
        if usesSystemd { arguments.append("--systemd-cgroup") }
        if terminal { arguments.append("--terminal") }
        if stdin { arguments.append("--stdin") }
        if stdin, !stdinOnce { arguments.append("--leave-stdin-open") }
        return arguments
    }

    /// What conmon says of the container that it has made.
    private struct Answer: Decodable {
        /// Negative: there is none.
        var pid: Int32
        var message: String?
    }

    /// Bytes of the answer, which holds what the runtime has said.
    private static let longestAnswer = 64 << 10

    /// Makes the container, whose first process waits for its start then. Blocks.
    ///
    /// - Parameters:
    ///   - place: moves conmon's process, before it starts another, to where the pod's are.
    ///   - limit: for all of it.
    /// - Returns: the first process.
    /// - Throws: what the runtime said; `.deadlineExceeded` when it hangs.
    func create(within limit: Duration, place: (ProcessIdentity) throws -> Void) throws -> ProcessIdentity {
        let (answer, start) = (try Pipe(), try Pipe())
        // It must not outlive this call, also where it waits for its start.
        defer { start.close() }
        defer { answer.close() }
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        guard null >= 0 else { throw SwiftletError.system("open /dev/null") }
        defer { close(null) }
        let said = "\(bundle.directory)/conmon.log"
        let log = open(said, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard log >= 0 else { throw SwiftletError.system("open \(said)") }
        defer { close(log) }
        let environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "_OCI_SYNCPIPE=3", "_OCI_STARTPIPE=4"]
        // When the container is killed for its memory, conmon makes a file "oom" where it works.
        let process = try DetachedProcess(
            path, arguments, descriptors: [null, log, log, answer.write, start.read], environment: environment, directory: bundle.directory)
        answer.closeWrite()
        do {
            // Where it is not found in the pod's group, what it starts could not be either.
            if let identity = ProcessIdentity.of(process.pid) { try place(identity) }
        } catch {
            process.killAndReap()
            throw SwiftletError.wrap(error, "the control group of conmon for container \(container)")
        }
        // It waits for this before it forks.
        _ = start.send([0])
        let deadline = ContinuousClock.now + limit
        let text: [UInt8]
        do {
            text = try answer.readLine(until: deadline, limit: Self.longestAnswer)
        } catch {
            // The daemon's child is the one that forks; it ends at once, unless it hangs.
            process.killAndReap()
            throw SwiftletError.wrap(error, "conmon \(path): wait for container \(container)", code: .unavailable)
        }
        var status: Int32 = 0
        waitpid(process.pid, &status, 0)
        guard let answer = try? JSONDecoder().decode(Answer.self, from: Data(text)) else {
            let words = String(decoding: (try? KernelFile.read(said, limit: 4096)) ?? [], as: UTF8.self)
            throw SwiftletError(
                .unavailable,
                "conmon \(path) did not say what became of container \(container): "
                    + oneLine(String(decoding: text, as: UTF8.self) + words, limit: 1024))
        }
        guard answer.pid > 0 else {
            throw OCIRuntime.failure(said: answer.message ?? "", "\(runtime.path) create")
        }
        guard let first = ProcessIdentity.of(answer.pid) else {
            throw SwiftletError(.unavailable, "the first process of container \(container), \(answer.pid), has ended before its start")
        }
        return first
    }
}

/// A pipe between this process and a child. Its ends are closed once, by whoever closes them first.
final class Pipe: Sendable {
    private let ends: Mutex<(read: Int32, write: Int32)>

    var read: Int32 { ends.withLock { $0.read } }
    var write: Int32 { ends.withLock { $0.write } }

    init() throws {
        var pair: [Int32] = [-1, -1]
        guard clinux_pipe2(&pair, O_CLOEXEC) == 0 else { throw SwiftletError.system("make a pipe") }
        ends = Mutex((pair[0], pair[1]))
    }

    deinit { close() }

    func closeWrite() {
        ends.withLock { ends in
            if ends.write >= 0 { Glibc.close(ends.write) }
            ends.write = -1
        }
    }

    func close() {
        closeWrite()
        ends.withLock { ends in
            if ends.read >= 0 { Glibc.close(ends.read) }
            ends.read = -1
        }
    }

    func send(_ bytes: [UInt8]) -> Bool { Glibc.write(write, bytes, bytes.count) == bytes.count }

    /// Bytes until a line end or the end.
    ///
    /// - Throws: `.deadlineExceeded`.
    func readLine(until deadline: ContinuousClock.Instant, limit: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while !bytes.contains(UInt8(ascii: "\n")), bytes.count < limit {
            let left = ContinuousClock.now.duration(to: deadline)
            guard left > .zero else { throw SwiftletError(.deadlineExceeded, "no answer in time") }
            var waiting = pollfd(fd: read, events: Int16(POLLIN), revents: 0)
            guard poll(&waiting, 1, Int32(min(left / .milliseconds(1), 1000)) + 1) > 0 else { continue }
            let chunk = [UInt8](unsafeUninitializedCapacity: 4096) { buffer, count in
                count = max(0, Glibc.read(read, buffer.baseAddress, buffer.count))
            }
            guard !chunk.isEmpty else { return bytes }
            bytes += chunk
        }
        return bytes
    }
}

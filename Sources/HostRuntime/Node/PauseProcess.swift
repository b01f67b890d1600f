import CLinux
import Concurrency
import Errors
import Foundation
import Glibc
import Linux
import Runtime
import State
import Synchronization

/// The first process of the PID namespace that a pod's containers share, and its control group: in the ledger, and in a file of the pod's
/// directory.
struct PauseDocument: StoredDocument {
    static let what = "ledger document of a pod's PID namespace"

    /// Nil until it was started.
    var process: ProcessIdentity?
    var cgroup: ProcessCgroup

    /// For SIGKILL: it ends when all processes of its namespace have.
    private static let killLimit = Duration.seconds(10)

    /// Replaces the file in one step. Blocks.
    func write(_ path: String) throws {
        do {
            try stored().write(to: URL(fileURLWithPath: path), options: .atomic)
        } catch {
            throw SwiftletError(.internal, "write \(path)", cause: error)
        }
    }

    /// Ends the namespace with all that is in it. Idempotent. Blocks.
    func end() throws {
        process?.kill()
        try group.end(within: Self.killLimit)
        if let process {
            guard process.waitForExit(Self.killLimit) else {
                throw SwiftletError(.unavailable, "process \(process.pid), the first of a pod's PID namespace, does not end on SIGKILL")
            }
            process.reap()
        }
        try cgroup.remove()
    }

    var group: ContainerCgroup { ContainerCgroup(directories: cgroup.directories.map(ContainerCgroup.Directory.init)) }
}

/// swiftlet-pause, as it is executed: a copy in memory for each pod, whose content nobody can change. Containers that may trace processes
/// can open what /proc/1/exe is, and change its mode.
struct PauseProgram: Sendable {
    /// Bytes.
    private static let limit = 32 << 20

    let path: String

    /// - Returns: the descriptor of a new copy. Blocks.
    /// - Throws: `.failedPrecondition` naming the program that is missing.
    func sealed() throws -> Int32 {
        let bytes: [UInt8]
        do {
            bytes = try KernelFile.read(path, limit: Self.limit)
        } catch {
            throw SwiftletError(
                .failedPrecondition,
                "config.linux.security_context.namespace_options.pid: \(path), the first process of the PID namespace that containers share, "
                    + "cannot be read; install it", cause: error)
        }
        let descriptor = clinux_sealed_memfd("swiftlet-pause", bytes, bytes.count)
        guard descriptor >= 0 else { throw SwiftletError.system("copy \(path) to memory") }
        return descriptor
    }
}

/// A start of swiftlet-pause in a pod's namespaces.
struct PauseProcess: Sendable {
    var program: PauseProgram
    /// The pod's directory, which it shows in its command line.
    var directory: String
    /// Namespaces that containers have too, by path. Without an IPC namespace among them, it has one of its own.
    var joined: [PinnedNamespace: String] = [:]
    var networkNamespace: String?

    /// It waits, and ends with the daemon, until it is told to begin: by then the ledger knows it.
    final class Waiting: Sendable {
        let process: ProcessIdentity
        private let answer: Pipe
        private let start: Pipe

        fileprivate init(_ process: ProcessIdentity, _ answer: Pipe, _ start: Pipe) {
            (self.process, self.answer, self.start) = (process, answer, start)
        }

        /// Returns when it has nothing of the node any more. Blocks.
        ///
        /// - Throws: what it said; `.deadlineExceeded`.
        func begin(within limit: Duration) throws {
            let what = "swiftlet-pause (process \(process.pid))"
            guard start.send([0]) else { throw SwiftletError(.unavailable, "\(what) has ended before its start") }
            let said: [UInt8]
            do {
                let deadline = ContinuousClock.now + limit
                said = try answer.readLine(until: deadline, limit: 1024)
                // It has closed all that it had when nothing follows.
                if said == [UInt8(ascii: "\n")] { _ = try answer.readLine(until: deadline, limit: 1024) }
            } catch {
                throw SwiftletError.wrap(error, what, code: .unavailable)
            }
            guard !said.isEmpty else { throw SwiftletError(.unavailable, "\(what) has ended at its start") }
            guard said == [UInt8(ascii: "\n")] else {
                throw SwiftletError(.internal, "\(what): \(oneLine(String(decoding: said, as: UTF8.self), limit: 512))")
            }
        }

        /// One that nobody will begin.
        func abandon() {
            process.kill()
            _ = process.waitForExit(.seconds(5))
            process.reap()
        }
    }

    /// Blocks.
    ///
    /// - Parameter place: moves it, before it does anything, to where the pod's processes are.
    func launch(place: (ProcessIdentity) throws -> Void) throws -> Waiting {
        let image = try program.sealed()
        defer { close(image) }
        let (answer, start) = (try Pipe(), try Pipe())
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        guard null >= 0 else { throw SwiftletError.system("open /dev/null") }
        defer { close(null) }
        let descriptors = [null, null, null, answer.write, start.read, image]
        let pid = try spawn(descriptors)
        answer.closeWrite()
        guard let process = ProcessIdentity.of(pid) else {
            waitpid(pid, nil, 0)
            throw SwiftletError(.unavailable, "\(program.path) has ended at once")
        }
        let waiting = Waiting(process, answer, start)
        do {
            try place(process)
        } catch {
            waiting.abandon()
            throw SwiftletError.wrap(error, "the control group of swiftlet-pause")
        }
        // As of other runtimes' sandboxes. A daemon that may not, in a container say, leaves it what the daemon has.
        _ = try? KernelFile.write(Self.oomScore, to: "/proc/\(pid)/oom_score_adj")
        return waiting
    }

    private static let oomScore = "-998"

    /// The child of a thread that has left is in the new PID namespace, where the thread itself, which ends with this, is not (unshare(2)).
    private func spawn(_ descriptors: [Int32]) throws -> pid_t {
        let (joined, network, directory) = (joined, networkNamespace, directory)
        return try OwnThread.runAndWait {
            var places = joined.map { ($0.value, $0.key.flag) }
            if let network { places.append((network, Int32(CLINUX_CLONE_NEWNET))) }
            for (path, flag) in places {
                let namespace = open(path, O_RDONLY | O_CLOEXEC)
                guard namespace >= 0 else { throw SwiftletError.system("open the namespace \(path)") }
                defer { close(namespace) }
                guard clinux_setns(namespace, flag) == 0 else { throw SwiftletError.system("enter the namespace \(path)") }
            }
            let own = Int32(CLINUX_CLONE_NEWPID) | (joined[.ipc] == nil ? Int32(CLINUX_CLONE_NEWIPC) : 0)
            guard clinux_unshare(own) == 0 else { throw SwiftletError.system("make the pod's PID namespace") }
            return try DetachedProcess("/proc/self/fd/\(descriptors.count - 1)", [directory], descriptors: descriptors, environment: []).pid
        }
    }
}

import Errors
import Foundation
import Glibc
import Linux

/// A further process of a container by conmon, which waits for its clients and holds its streams, and outlives the daemon.
struct ConmonExec: Sendable {
    var path: String
    var runtime: OCIRuntime
    var container: String
    var directory: SessionDirectory
    var terminal: Bool
    var stdin: Bool

    var arguments: [String] {
        var arguments = [
            "--api-version", "1", "--sync", "--cid", container, "--cuuid", container, "--name", container, "--runtime", runtime.path,
            "--bundle", directory.path, "--container-pidfile", directory.processFile, "--exit-dir", "\(directory.path)/exits",
            "--full-attach", "--log-path", "none:", "--log-level", "warning",
            "--exec", "--exec-attach", "--exec-process-spec", directory.specification,
        ]
        for argument in runtime.globalArguments { arguments += ["--runtime-arg", argument] }
        if terminal { arguments.append("--terminal") }
        if stdin { arguments.append("--stdin") }
        return arguments
    }

    /// What conmon says: that it serves clients, and the process.
    fileprivate struct Answer: Decodable {
        /// Negative: there is none.
        var data: Int32
        var message: String?
    }

    private static let longestAnswer = 64 << 10

    /// conmon, before it has started the process.
    final class Waiting: Sendable {
        let monitor: ProcessIdentity
        private let answer: Pipe
        private let start: Pipe

        init(_ monitor: ProcessIdentity, _ answer: Pipe, _ start: Pipe) {
            (self.monitor, self.answer, self.start) = (monitor, answer, start)
        }

        /// Has the process started. Blocks.
        ///
        /// - Throws: what the runtime said; `.deadlineExceeded` when it hangs.
        func begin(within limit: Duration, container: String) throws -> ProcessIdentity? {
            guard start.send([0]) else { throw SwiftletError(.unavailable, "conmon has ended before exec in container \(container)") }
            let said = try Self.line(of: answer, until: .now + limit, container)
            guard said.data > 0 else { throw OCIRuntime.failure(said: said.message ?? "", "exec in container \(container)") }
            return ProcessIdentity.of(said.data)
        }

        fileprivate static func line(of pipe: Pipe, until deadline: ContinuousClock.Instant, _ container: String) throws -> Answer {
            let text: [UInt8]
            do {
                text = try pipe.readLine(until: deadline, limit: longestAnswer)
            } catch {
                throw SwiftletError.wrap(error, "conmon: exec in container \(container)", code: .unavailable)
            }
            // The exit code of a short process may be there as well.
            guard let answer = try? JSONDecoder().decode(Answer.self, from: Data(text.prefix { $0 != UInt8(ascii: "\n") })) else {
                throw SwiftletError(
                    .unavailable,
                    "conmon did not say what became of exec in container \(container): "
                        + oneLine(String(decoding: text, as: UTF8.self), limit: 1024))
            }
            return answer
        }

        deinit {
            answer.close()
            start.close()
        }
    }

    /// Starts conmon, and returns when clients can connect to it. Blocks.
    ///
    /// - Parameter place: moves conmon's process to where the pod's are.
    func launch(within limit: Duration, place: (ProcessIdentity) throws -> Void) throws -> Waiting {
        let (answer, start, attach) = (try Pipe(), try Pipe(), try Pipe())
        defer { attach.close() }
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        guard null >= 0 else { throw SwiftletError.system("open /dev/null") }
        defer { close(null) }
        let environment = [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "_OCI_SYNCPIPE=3", "_OCI_STARTPIPE=4",
            "_OCI_ATTACHPIPE=5",
        ]
        let process = try DetachedProcess(
            path, arguments, descriptors: [null, null, null, answer.write, start.read, attach.write], environment: environment,
            directory: directory.path)
        answer.closeWrite()
        attach.closeWrite()
        do {
            guard let identity = ProcessIdentity.of(process.pid) else {
                throw SwiftletError(.unavailable, "conmon \(path) has ended at once")
            }
            try Data("\(process.pid)".utf8).write(to: URL(fileURLWithPath: directory.monitorFile))
            try place(identity)
            // It waits for this before it does anything, and once more before it starts the process.
            _ = start.send([0])
            _ = try Waiting.line(of: attach, until: .now + limit, container)
            return Waiting(identity, answer, start)
        } catch {
            process.killAndReap()
            answer.close()
            start.close()
            throw error
        }
    }
}

import Concurrency
import Errors
import Foundation
import Glibc
import Linux

/// A process that the benchmark started and ends. Its output goes to a file.
final class BenchProcess: Sendable {
    let identity: ProcessIdentity
    let log: String

    init(_ executable: String, _ arguments: [String], log: String) throws {
        self.log = log
        let output = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard output >= 0 else { throw SwiftletError.system("open \(log)") }
        let input = open("/dev/null", O_RDONLY | O_CLOEXEC)
        defer { [input, output].forEach { close($0) } }
        let child = try DetachedProcess(executable, arguments, descriptors: [input, output, output])
        let identity = ProcessIdentity.of(child.pid)
        // Collects its status whenever it ends.
        try OwnThread.start { while waitpid(child.pid, nil, 0) < 0 && errno == EINTR {} }
        guard let identity else { throw SwiftletError(.unavailable, "\(executable) ended at once: \(Self.end(of: log))") }
        self.identity = identity
    }

    var isAlive: Bool { identity.isAlive }

    /// The end of what it wrote, for an error message.
    var said: String { Self.end(of: log) }

    /// SIGTERM, and SIGKILL for one that does not end within `grace`.
    func stop(grace: Duration = .seconds(15)) async {
        await Self.end([identity], grace: grace)
    }

    /// Ends processes by SIGTERM, and those that live on by SIGKILL; without grace by SIGKILL at once.
    static func end(_ processes: [ProcessIdentity], grace: Duration = .zero) async {
        try? await OwnThread.run {
            if grace > .zero { for process in processes { _ = try? process.signal(SIGTERM) } }
            let deadline = ContinuousClock.now + grace
            for process in processes where !process.waitForExit(max(.zero, ContinuousClock.now.duration(to: deadline))) { process.kill() }
            for process in processes { _ = process.waitForExit(.seconds(10)) }
        }
    }

    private static func end(of file: String) -> String {
        String(((try? String(contentsOfFile: file, encoding: .utf8)) ?? "").suffix(2000))
    }
}

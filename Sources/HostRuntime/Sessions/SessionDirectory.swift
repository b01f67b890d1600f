import CLinux
import Errors
import Foundation
import Glibc
import Linux
import Runtime

/// The directory of an exec session's process, below its container's bundle: what runtime and conmon are given, and what they leave there.
struct SessionDirectory: Sendable {
    private static let prefix = "session-"

    var path: String

    init(path: String) { self.path = path }

    init(in bundle: ContainerBundle) {
        path = "\(bundle.directory)/\(Self.prefix)\(String(UInt32.random(in: 0 ... .max), radix: 16))"
    }

    var specification: String { "\(path)/process.json" }
    /// The runtime's: the process.
    var processFile: String { "\(path)/pid" }
    /// conmon.
    var monitorFile: String { "\(path)/conmon.pid" }
    func exitFile(_ container: String) -> String { "\(path)/exits/\(container)" }
    /// Read by swiftlet-streamd as long as the session lasts.
    var sessionPipe: String { "\(path)/session" }

    func joinable(_ container: String, hasInput: Bool) -> JoinableProcess {
        JoinableProcess(
            conmon: ConmonEndpoint(socket: "\(path)/attach", control: "\(path)/ctl", hasInput: hasInput), exitFile: exitFile(container),
            sessionPipe: sessionPipe)
    }

    /// Blocks.
    func create() throws {
        for directory in [path, "\(path)/exits"] {
            guard mkdir(directory, 0o700) == 0 else { throw SwiftletError.system("make directory \(directory)") }
        }
        guard mkfifo(sessionPipe, 0o600) == 0 else { throw SwiftletError.system("make the named pipe \(sessionPipe)") }
    }

    func remove() { try? FileManager.default.removeItem(atPath: path) }

    /// Of a container's sessions, also those of a daemon that has ended. Blocks.
    static func all(in bundle: ContainerBundle) -> [SessionDirectory] {
        let names = (try? KernelFile.names(in: bundle.directory)) ?? []
        return names.filter { $0.hasPrefix(prefix) }.map { SessionDirectory(path: "\(bundle.directory)/\($0)") }
    }
}

/// Whether a session lasts, whoever carries it: swiftlet-streamd reads its named pipe as long as it does.
struct SessionPipe {
    private static let loop = Result { try EventLoop(name: "sessions") }

    let path: String

    /// Whether somebody reads it.
    var isRead: Bool {
        let pipe = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW)
        // ENXIO: there is no reader.
        guard pipe >= 0 else { return errno != ENXIO && errno != ENOENT }
        close(pipe)
        return true
    }

    /// Waits until nobody reads it any more; returns at once where nobody does, and when the caller is cancelled.
    func hasEnded() async {
        while isRead, !Task.isCancelled {
            guard await !waits() else { return }
            // Out of descriptors.
            try? await Task.sleep(for: .seconds(1))
        }
    }

    /// - Returns: whether it could be waited for.
    private func waits() async -> Bool {
        let pipe = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW)
        guard pipe >= 0, let loop = try? Self.loop.get() else { return false }
        defer { close(pipe) }
        let (ends, end) = AsyncStream.makeStream(of: Never.self)
        // A pipe without readers is an error (EPOLLERR), which is reported as readable; one that is read is never readable here.
        guard let watch = try? loop.watch(pipe, .readable, handler: { _ in end.finish() }) else { return false }
        for await _ in ends {}
        loop.unwatch(watch, descriptor: pipe)
        return true
    }
}

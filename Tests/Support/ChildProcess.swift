import Concurrency
import Foundation
import Glibc
import Linux
import Synchronization

/// A program that a test starts, with the interface of Foundation's `Process`, which must not be used: it copies names of
/// directory entries beyond the end of readdir(3)'s buffer (swift-corelibs-foundation of Swift 6.3, `findMaximumOpenFromProcSelfFD`),
/// and the process crashes where no page follows.
///
/// Its properties are set before `run()` by the one who calls that, and only read afterwards: hence unchecked.
public final class ChildProcess: @unchecked Sendable {
    public enum TerminationReason: Sendable { case exit, uncaughtSignal }

    public var executableURL: URL?
    public var arguments: [String]?
    /// All of the environment; nil: that of the test.
    public var environment: [String: String]?
    public var currentDirectoryURL: URL?
    /// A `Pipe` or a `FileHandle`; nil: the test's own.
    public var standardInput: Any?
    public var standardOutput: Any?
    public var standardError: Any?
    /// Called once, after the status is known.
    public var terminationHandler: (@Sendable (ChildProcess) -> Void)?

    private let state = Mutex(State())
    private let ended = DispatchSemaphore(value: 0)

    private struct State {
        var pid: pid_t = 0
        /// As wait(2) gives it.
        var status: Int32?
    }

    public init() {}

    public static func run(_ program: URL, arguments: [String]) throws -> ChildProcess {
        let process = ChildProcess()
        (process.executableURL, process.arguments) = (program, arguments)
        try process.run()
        return process
    }

    public var processIdentifier: pid_t { state.withLock { $0.pid } }
    public var isRunning: Bool { state.withLock { $0.pid != 0 && $0.status == nil } }

    /// The exit code, or the signal that ended it.
    public var terminationStatus: Int32 {
        let status = state.withLock { $0.status } ?? 0
        return status & 0x7F == 0 ? status >> 8 & 0xFF : status & 0x7F
    }

    public var terminationReason: TerminationReason {
        (state.withLock { $0.status } ?? 0) & 0x7F == 0 ? .exit : .uncaughtSignal
    }

    public func run() throws {
        let streams = [standardInput, standardOutput, standardError]
        // `FileHandle.nullDevice` has no descriptor.
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        defer { close(null) }
        let descriptors = streams.enumerated().map { number, stream in
            switch stream {
            case let pipe as Pipe: (number == 0 ? pipe.fileHandleForReading : pipe.fileHandleForWriting).fileDescriptor
            case let file as FileHandle: file === FileHandle.nullDevice ? null : file.fileDescriptor
            default: Int32(number)
            }
        }
        let child = try DetachedProcess(
            executableURL?.path ?? "", arguments ?? [], descriptors: descriptors,
            environment: environment.map { $0.map { "\($0.key)=\($0.value)" } }, directory: currentDirectoryURL?.path)
        state.withLock { $0.pid = child.pid }
        for (number, stream) in streams.enumerated() {
            // The same pipe may be two of the streams.
            guard let pipe = stream as? Pipe else { continue }
            try? (number == 0 ? pipe.fileHandleForReading : pipe.fileHandleForWriting).close()
        }
        try OwnThread.start { [self] in
            var status: Int32 = 0
            while waitpid(child.pid, &status, 0) < 0 && errno == EINTR {}
            state.withLock { [status] in $0.status = status }
            terminationHandler?(self)
            terminationHandler = nil
            ended.signal()
        }
    }

    public func waitUntilExit() {
        ended.wait()
        // For the next one who waits.
        ended.signal()
    }

    public func terminate() { kill(processIdentifier, SIGTERM) }
}

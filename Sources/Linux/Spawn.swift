import CLinux
import Concurrency
import Errors
import Glibc

/// A program to run to its end: argument vector, environment and input as they are, without a shell.
///
/// The child gets a process group of its own and no descriptors but the three standard ones. At the deadline the whole
/// group gets SIGKILL.
public struct Spawn: Sendable {
    /// Absolute path of the program.
    public var executable: String
    public var arguments: [String]
    /// The whole environment; nil passes on this process's.
    public var environment: [String: String]?
    public var directory: String?
    public var input: [UInt8]
    /// How long the program may take.
    public var deadline: Duration
    /// Bytes kept of each output; what follows is read and dropped.
    public var outputLimit: Int
    /// How many of so many more bytes of both outputs are kept, below that limit; when it throws, the program is killed. Nil: all.
    public var admit: (@Sendable (Int) throws -> Int)?

    public init(
        _ executable: String, _ arguments: [String] = [], environment: [String: String]? = nil, directory: String? = nil,
        input: [UInt8] = [], deadline: Duration = .seconds(60), outputLimit: Int = 1 << 20
    ) {
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.directory = directory
        self.input = input
        self.deadline = deadline
        self.outputLimit = outputLimit
    }

    /// How a program ended and what it said.
    public struct Result: Sendable, Equatable {
        /// The exit code, or 128 + the signal that killed it.
        public var status: Int32
        public var output: [UInt8]
        public var errorOutput: [UInt8]
        /// One of the outputs was longer than the limit.
        public var truncated: Bool

        public var succeeded: Bool { status == 0 }
        public var outputText: String { String(decoding: output, as: UTF8.self) }
        public var errorText: String { String(decoding: errorOutput, as: UTF8.self) }
    }

    /// Runs the program on a thread of its own and suspends until it has ended.
    ///
    /// Cancelling the task does not stop the program: half of its work is worse than all of it. The deadline does.
    ///
    /// - Throws: `deadlineExceeded`; the errno of a program that cannot be started. A failing exit status is a result.
    public func run() async throws -> Result {
        try await OwnThread.run { try perform() }
    }

    /// As `run()`, blocking the caller: never on the cooperative pool.
    public func runAndWait() throws -> Result {
        try OwnThread.runAndWait { try perform() }
    }

    /// On a thread of its own, which can block SIGPIPE for good: a child that does not read its input sends it.
    private func perform() throws -> Result {
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        return try SpawnedChild(self).finish()
    }

    /// Runs the program and fails when its exit status is not 0.
    @discardableResult
    public func check() async throws -> Result {
        let result = try await run()
        guard result.succeeded else {
            let said = (result.errorOutput.isEmpty ? result.outputText : result.errorText).prefix(4096)
            throw SwiftletError(
                .internal, "\(executable) \(arguments.joined(separator: " ")) failed with status \(result.status): \(said)")
        }
        return result
    }
}

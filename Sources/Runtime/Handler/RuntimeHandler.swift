import Errors
import Linux

/// One way of running pods, chosen by RuntimeClass.
public protocol RuntimeHandler: Sendable {
    /// The name that a RuntimeClass's handler field carries.
    var name: String { get }

    /// Brings a sandbox up, step by step, noting every resource in the ledger first.
    ///
    /// - Throws: what failed, naming the step. Undoing is the caller's: it releases the ledger.
    func start(_ context: SandboxContext) async throws -> any Sandbox

    /// Finds the sandbox of an earlier daemon again.
    ///
    /// - Throws: `.notFound` when its machine is certainly gone; `SandboxHalt` when it is there and does not run; any other code when the
    ///   handler cannot say now.
    func reattach(_ context: SandboxContext) async throws -> any Sandbox

    /// What pods may ask of the handler.
    var capabilities: HandlerCapabilities { get }

    /// What pods of an earlier daemon hold on the node, in the order of acquisition. Called before the first start.
    ///
    /// - Parameter isKnown: whether a pod, named by its id or the beginning of it, is one that the ledger lists: it is left out.
    /// - Throws: when it cannot be said for certain; nothing is released then.
    func leftovers(besides isKnown: @Sendable (_ pod: String) -> Bool) async throws -> [Leftover]

    /// What keeps the handler from starting pods now; nil when nothing does.
    func obstacle() async -> String?
}

/// The sandbox that a handler works for.
public struct SandboxContext: Sendable {
    public let id: String
    public let spec: SandboxSpec
    /// Where every resource is noted before it is acquired.
    public let ledger: Ledger
    /// Attached beside the handler's work.
    public let network: any PodNetworkAttachment
    /// Held while what the sandbox's guest sends is worked on.
    public let mark: CrashMark
    /// Says how far the start has come, in the handler's own words; shown and kept.
    public let phase: @Sendable (String) async throws -> Void

    public init(
        id: String, spec: SandboxSpec, ledger: Ledger, network: any PodNetworkAttachment, mark: CrashMark = CrashMark(),
        phase: @escaping @Sendable (String) async throws -> Void = { _ in }
    ) {
        self.id = id
        self.spec = spec
        self.ledger = ledger
        self.network = network
        self.mark = mark
        self.phase = phase
    }
}

/// A sandbox that is up: where its containers live.
public protocol Sandbox: Sendable {
    /// For verbose status: the machine's name, pid, console, ...
    var details: [String: JSONValue] { get }

    /// What keeps the sandbox from running at this moment, and each change of it; nil: nothing. Ends with the sandbox.
    func halts() -> AsyncStream<SandboxHalt?>

    /// Answers when the machine has ended or its agent is lost for good, with the reason.
    func lost() async -> SandboxLoss

    /// Makes the container ready to start. What it gets inside the machine ends with the machine; what it needs on the node is
    /// written to `ledger`, the container's own, first.
    /// - Returns: who its first process will be.
    func createContainer(_ id: String, _ plan: ContainerPlan, ledger: Ledger) async throws -> ContainerUser

    /// The containers that the guest has, for a daemon that has restarted.
    func containerStates() async throws -> [String: GuestContainerState]

    /// Runs the first process.
    ///
    /// - Parameter ledger: the container's own, for what its start takes on the node.
    func startContainer(_ id: String, ledger: Ledger) async throws

    /// Answers when a container's first process has ended.
    func waitForExit(_ id: String) async throws -> ProcessExit

    /// Sends a signal to the first process, or to all of the container.
    func signal(_ id: String, _ signal: Int32, all: Bool) async throws

    /// Kills what is left in the guest and forgets the container there. Idempotent.
    func deleteContainer(_ id: String) async throws

    /// Where connections to the sandbox's ports are made.
    ///
    /// - Throws: `.failedPrecondition` where none can be.
    var ports: PortEndpoint { get async throws }

    /// Where the first process's output is read.
    func output(of id: String) -> OutputEndpoint

    /// Where processes are run that a client opens sessions for.
    ///
    /// - Throws: `.unavailable` or `.failedPrecondition`, with what to do, where none can be with such streams.
    func execEndpoint(of id: String, for streams: SessionStreams) async throws -> ExecEndpoint

    /// Runs a process and collects its output. Ends with the process, whoever else holds its output open.
    ///
    /// - Parameter output: what may be kept of stdout and stderr together.
    /// - Throws: `.deadlineExceeded` when it runs longer than `timeout`, or the guest does not answer; it is killed then, and when the
    ///   caller is cancelled.
    func execute(_ id: String, _ command: [String], timeout: Duration?, output: OutputAllowance) async throws -> ExecResult

    /// Makes a process that waits, has a session join it, and starts it. It ends with the session; without one that has joined at once.
    ///
    /// - Throws: why it could not be started.
    func openProcess(
        _ id: String, _ command: [String], _ streams: SessionStreams, size: InitialTerminalSize?,
        join: @escaping @Sendable (JoinableProcess) async throws -> Void
    ) async throws

    /// What the pod uses. Ends by itself, with an error when the guest does not answer, or says more than is to be said of so many
    /// containers.
    func statistics(openFiles: Bool, containers: Int) async throws -> SandboxFigures

    /// Puts a container's limits in force, all that differ from `old` or none.
    func updateContainer(_ id: String, from old: LinuxResources, to new: LinuxResources) async throws

    /// Lets the machine, and what limits it on the node, grow to what its pod demands; does nothing when it is large enough.
    ///
    /// - Throws: `.deadlineExceeded` when the guest does not take what it was given.
    func fit(_ demand: PodDemand) async throws

    /// Ends all containers and asks the machine to power off; does not wait for that.
    func requestShutdown() async

    /// Ends the connections to the machine, which goes on. Idempotent.
    func close()
}

extension Sandbox {
    /// Where ``execEndpoint(of:for:)`` never asks for it.
    public func openProcess(
        _ id: String, _ command: [String], _ streams: SessionStreams, size: InitialTerminalSize?,
        join: @escaping @Sendable (JoinableProcess) async throws -> Void
    ) async throws {
        throw SwiftletError(.unimplemented, "exec: processes of this container are opened otherwise")
    }
}

/// A sandbox whose containers' logs are written by processes of its own.
public protocol LogWritingSandbox: Sandbox {
    /// Goes on in the file that the container's log path names now.
    ///
    /// - Throws: `.failedPrecondition` when the new file cannot be opened, or nobody writes the log any more.
    func reopenLog(of id: String) async throws
}

/// Why a sandbox cannot go on.
public struct SandboxLoss: Sendable, Equatable {
    public var reason: String
    /// The node's kernel has killed it for lack of memory.
    public var outOfMemory: Bool

    public init(_ reason: String, outOfMemory: Bool = false) {
        self.reason = reason
        self.outOfMemory = outOfMemory
    }
}

/// How a process ended, as the guest saw it.
public struct ProcessExit: Sendable, Equatable {
    public var code: Int32
    public var outOfMemory: Bool
    /// Unix time in nanoseconds by the guest's clock; not to be trusted.
    public var exitedAt: Int64
    /// For people; empty: the code says it all.
    public var message: String

    public init(code: Int32, outOfMemory: Bool, exitedAt: Int64, message: String = "") {
        self.code = code
        self.outOfMemory = outOfMemory
        self.exitedAt = exitedAt
        self.message = message
    }
}

/// A container as its guest sees it.
public enum GuestContainerState: Sendable, Equatable {
    case created
    /// Its first process runs, or has ended and its exit waits to be asked for.
    case started
}

/// What ExecSync answers.
public struct ExecResult: Sendable, Equatable {
    public var stdout: [UInt8]
    public var stderr: [UInt8]
    public var exitCode: Int32
    /// The process has written more than was kept.
    public var isCut: Bool

    public init(stdout: [UInt8], stderr: [UInt8], exitCode: Int32, isCut: Bool = false) {
        self.stdout = stdout
        self.stderr = stderr
        self.exitCode = exitCode
        self.isCut = isCut
    }
}

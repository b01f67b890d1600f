import AgentProtocol
import Errors
import Synchronization

/// Whose guest this is: nobody's until StartSandbox has succeeded once.
final class SandboxState: Sendable {
    private let start: @Sendable (AgentStartSandboxRequest) throws(SwiftletError) -> SandboxEnvironment
    /// Held while a start runs, so that a repeated one gets its result.
    private let starting = Mutex(())
    private let started = Mutex<(id: String, environment: SandboxEnvironment)?>(nil)

    init(start: @escaping @Sendable (AgentStartSandboxRequest) throws(SwiftletError) -> SandboxEnvironment) { self.start = start }

    /// Empty before StartSandbox.
    var id: String { started.withLock { $0?.id ?? "" } }

    /// - Throws: `.failedPrecondition` when the guest is another sandbox's; what the failed step threw, after which it
    ///   can be tried again.
    func start(_ request: AgentStartSandboxRequest) throws(SwiftletError) {
        guard !request.sandboxID.isEmpty else { throw SwiftletError(.invalidArgument, "a sandbox needs an id") }
        try starting.withLock { _ throws(SwiftletError) in
            let current = id
            if current == request.sandboxID { return }
            guard current.isEmpty else {
                throw SwiftletError(.failedPrecondition, "this guest is sandbox \(current), not \(printable(request.sandboxID))")
            }
            let environment = try start(request)
            started.withLock { $0 = (request.sandboxID, environment) }
        }
    }

    /// - Throws: `.failedPrecondition` before StartSandbox.
    func environment() throws(SwiftletError) -> SandboxEnvironment {
        guard let started = started.withLock({ $0 }) else {
            throw SwiftletError(.failedPrecondition, "the sandbox has not been started: call StartSandbox first")
        }
        return started.environment
    }
}

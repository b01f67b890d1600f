import Errors
import Runtime

/// Stands for a handler that is not configured any more: its pods are listed, and released by kind.
struct AbsentHandler: RuntimeHandler {
    let name: String

    private var refusal: SwiftletError {
        SwiftletError(.failedPrecondition, "runtime handler \(name) is not configured on this node any more")
    }

    func start(_ context: SandboxContext) async throws -> any Sandbox { throw refusal }
    func reattach(_ context: SandboxContext) async throws -> any Sandbox { throw refusal }
    var capabilities: HandlerCapabilities { HandlerCapabilities() }
    func obstacle() async -> String? { refusal.message }

    func leftovers(besides isKnown: @Sendable (_ pod: String) -> Bool) async throws -> [Leftover] { [] }
}

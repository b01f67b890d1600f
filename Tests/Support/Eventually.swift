import Errors

/// Asks every few milliseconds until `holds` returns true.
///
/// - Parameters:
///   - what: what is waited for, for the error: "the pod is not ready".
///   - limit: by ContinuousClock, which no change of the wall clock moves.
/// - Throws: `.deadlineExceeded` naming `what`; what `holds` throws.
public func eventually(
    _ what: @autoclosure () -> String, within limit: Duration = .seconds(60), isolation: isolated (any Actor)? = #isolation,
    _ holds: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !holds() {
        guard ContinuousClock.now < deadline else {
            throw SwiftletError(.deadlineExceeded, "waited \(limit.components.seconds) s in vain: \(what())")
        }
        try await Task.sleep(for: .milliseconds(20))
    }
}

import Errors
import Runtime
import Synchronization

/// Kernel parameters that a guest has refused. A client that asks for a pod asks again and again, and each time would use a machine of the
/// pool up.
final class RefusedSysctls: Sendable {
    private struct Setting: Hashable {
        var name: String
        var value: String
    }

    private struct Refusal {
        var error: SwiftletError
        var until: ContinuousClock.Instant
    }

    /// A new kernel may have what the last one had not.
    private static let memory = Duration.seconds(600)
    private static let most = 256

    private let refusals = Mutex<[Setting: Refusal]>([:])

    /// - Throws: what a guest said of one of them not long ago.
    func check(_ sysctls: [String: String], now: ContinuousClock.Instant = .now) throws {
        guard !sysctls.isEmpty else { return }
        let known = refusals.withLock { $0 }
        for (name, value) in sysctls {
            if let refusal = known[Setting(name: name, value: value)], refusal.until > now { throw refusal.error }
        }
    }

    /// Whether the guest has refused one of them, by its answer to StartSandbox ("sysctl NAME: …").
    func note(_ error: any Error, for sysctls: [String: String], now: ContinuousClock.Instant = .now) -> Bool {
        guard let error = error as? SwiftletError, [.invalidArgument, .notFound, .permissionDenied].contains(error.code),
            let refused = sysctls.first(where: { error.description.contains("sysctl \($0.key):") })
        else { return false }
        refusals.withLock { refusals in
            refusals = refusals.filter { $0.value.until > now }
            if refusals.count >= Self.most, let oldest = refusals.min(by: { $0.value.until < $1.value.until }) {
                refusals[oldest.key] = nil
            }
            refusals[Setting(name: refused.key, value: refused.value)] = Refusal(error: error, until: now + Self.memory)
        }
        return true
    }
}

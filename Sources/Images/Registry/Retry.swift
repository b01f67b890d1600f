import Errors

/// Tries again what may pass: connections that break, servers that are busy.
struct Retry: Sendable {
    private let attempts: Int
    private let delay: Duration

    init(_ configuration: ImageStoreConfiguration) {
        attempts = max(1, configuration.attempts)
        delay = configuration.retryDelay
    }

    /// - Throws: the last failure as a `SwiftletError`.
    func run<Value: Sendable>(_ body: @Sendable () async throws -> Value) async throws -> Value {
        var pause = delay
        var attempt = 1
        while true {
            do {
                return try await body()
            } catch let failure as RegistryFailure {
                guard failure.isTransient, attempt < attempts else {
                    throw attempt > 1 ? failure.error.appending("after \(attempt) attempts") : failure.error
                }
                try await Task.sleep(for: failure.delay ?? pause)
            }
            attempt += 1
            pause *= 2
        }
    }
}

extension SwiftletError {
    func appending(_ remark: String) -> SwiftletError {
        SwiftletError(code, "\(message), \(remark)", cause: cause)
    }
}

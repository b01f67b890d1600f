import Logging
import Runtime

/// Writes into the debug log when a sandbox's start passed its steps.
package struct StepTimes: Sendable {
    private let began = ContinuousClock.now
    private let id: String
    private let logger: Logger

    package init(_ id: String, _ logger: Logger) {
        self.id = id
        self.logger = logger
    }

    package func passed(_ step: StaticString) {
        logger.debug("sandbox start: \(step)", metadata: ["sandbox": "\(id)", "after": "\(began.duration(to: .now))"])
    }
}

import Logging

/// Writes into the debug log when an act on a sandbox or a container passed its steps.
public struct StepTimes: Sendable {
    private let began = ContinuousClock.now
    private let act: StaticString
    private let id: String
    private let logger: Logger

    /// - Parameter id: the sandbox's or the container's.
    public init(_ id: String, _ logger: Logger, of act: StaticString = "sandbox start") {
        self.act = act
        self.id = id
        self.logger = logger
    }

    public func passed(_ step: @autoclosure () -> String) {
        logger.debug("\(act): \(step())", metadata: ["id": "\(id)", "after": "\(began.duration(to: .now))"])
    }
}

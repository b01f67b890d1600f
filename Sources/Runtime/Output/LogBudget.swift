/// How much of a container's output goes to its log in a second.
public struct LogBudget: Codable, Sendable, Equatable {
    /// What becomes of output beyond the budget.
    public enum Excess: String, Codable, Sendable {
        /// The guest keeps it, and a container whose buffer there is full waits.
        case wait
        /// It is not written; the log says how many bytes these were.
        case drop
    }

    /// Of the container's output; 0: any.
    public var bytesPerSecond: UInt64
    /// Writes to the log; 0: any.
    public var operationsPerSecond: UInt64
    public var excess: Excess

    public init(bytesPerSecond: UInt64 = 0, operationsPerSecond: UInt64 = 0, excess: Excess = .wait) {
        self.bytesPerSecond = bytesPerSecond
        self.operationsPerSecond = operationsPerSecond
        self.excess = excess
    }

    public var isUnlimited: Bool { bytesPerSecond == 0 && operationsPerSecond == 0 }

    /// The smaller of each limit. What becomes of the excess stays.
    public func lowered(bytesPerSecond bytes: UInt64, operationsPerSecond operations: UInt64) -> LogBudget {
        LogBudget(
            bytesPerSecond: Self.least(bytesPerSecond, bytes), operationsPerSecond: Self.least(operationsPerSecond, operations),
            excess: excess)
    }

    private static func least(_ one: UInt64, _ other: UInt64) -> UInt64 {
        if one == 0 || other == 0 { return max(one, other) }
        return min(one, other)
    }
}

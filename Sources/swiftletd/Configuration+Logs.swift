import Errors
import Runtime

extension Configuration {
    /// Of each container's log.
    ///
    /// - Throws: `.invalidArgument` naming the key whose value cannot be used.
    func logBudget() throws -> LogBudget {
        guard let excess = LogBudget.Excess(rawValue: logs.overBudget) else {
            throw SwiftletError(.invalidArgument, "logs.over_budget = \(quoted(logs.overBudget)) is neither wait nor drop")
        }
        func rate(_ number: Int, _ key: String) throws -> UInt64 {
            guard number >= 0 else { throw SwiftletError(.invalidArgument, "logs.\(key) = \(number) is negative") }
            return UInt64(number)
        }
        return LogBudget(
            bytesPerSecond: try rate(logs.bytesPerSecond, "bytes_per_second"),
            operationsPerSecond: try rate(logs.operationsPerSecond, "operations_per_second"), excess: excess)
    }
}

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

    /// Bytes: a smaller file holds hardly more than what a container writes at once.
    static let leastLogSize = 64 << 10

    /// Of each container's log; nil: the kubelet rotates it, or nobody does.
    ///
    /// - Throws: `.invalidArgument` naming the key whose value cannot be used.
    func logRotation() throws -> LogRotation? {
        guard logs.maxSize == 0 || logs.maxSize >= Self.leastLogSize else {
            throw SwiftletError(
                .invalidArgument, "logs.max_size = \(logs.maxSize) is less than \(Self.leastLogSize) bytes, and not 0, which is none")
        }
        guard (2...1000).contains(logs.maxFiles) else {
            throw SwiftletError(.invalidArgument, "logs.max_files = \(logs.maxFiles) is not from 2 to 1000")
        }
        return logs.maxSize == 0 ? nil : LogRotation(maxSize: UInt64(logs.maxSize), maxFiles: logs.maxFiles)
    }
}

import Errors
import Runtime

/// The budget of the logs of a pod's containers: the configured one, or less where the pod's annotations say so.
///
/// A pod may not raise it, nor choose what becomes of the excess: dropped lines may be those that an administrator looks for.
enum PodLogBudget {
    static let bytes = "swiftlet/log-bytes-per-second"
    static let operations = "swiftlet/log-operations-per-second"

    /// - Throws: `.invalidArgument` naming the annotation that is no number from 1 on.
    static func budget(_ annotations: [String: String], configured: LogBudget) throws -> LogBudget {
        configured.lowered(
            bytesPerSecond: try number(annotations, bytes), operationsPerSecond: try number(annotations, operations))
    }

    private static func number(_ annotations: [String: String], _ name: String) throws -> UInt64 {
        guard let text = annotations[name] else { return 0 }
        guard text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }), let number = UInt64(text), number > 0 else {
            throw SwiftletError(.invalidArgument, "config.annotations \(name): \(quoted(text)) is no whole number from 1 on")
        }
        return number
    }
}

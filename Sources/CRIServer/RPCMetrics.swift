import CoreMetrics
import GRPC
import Measures

/// Counts and times RPCs by method, and counts how they ended by gRPC code.
struct RPCMetrics: Sendable {
    static let count = "swiftlet_rpc_total"
    static let duration = "swiftlet_rpc_duration_seconds"

    let factory: any MetricsFactory

    func ended(_ method: String, _ code: GRPCStatus.Code, after duration: Duration) {
        Counter(label: Self.count, dimensions: [("method", method), ("code", code.name)], factory: factory).increment()
        Timer(label: Self.duration, dimensions: [("method", method)], factory: factory).record(duration)
    }
}

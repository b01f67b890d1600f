import Errors
import GRPC
import Prometheus

extension Configuration {
    /// Where metrics are served; nil for nowhere.
    ///
    /// - Throws: `.invalidArgument` for an address that other nodes could reach.
    func metricsAddress() throws -> MetricsAddress? {
        guard !metrics.address.isEmpty else { return nil }
        do {
            switch try Endpoint(parsing: metrics.address) {
            case .unix(let path): return .unix(path: path)
            case .tcp(let host, let port): return try .loopback(host: host, port: port)
            }
        } catch {
            throw SwiftletError.wrap(error, "metrics.address")
        }
    }
}

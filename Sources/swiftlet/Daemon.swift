import CRI
import CRIClient
import Errors
import GRPC
import Linux
import SwiftProtobuf

/// swiftletd as this command sees it.
struct Daemon: Sendable {
    /// How long requests may take when the user gives no timeout.
    enum Patience {
        /// What swiftletd answers from memory.
        static let look = Duration.seconds(10)
        /// What ends or removes something, its own grace period not counted.
        static let end = Duration.seconds(60)
        /// What makes or starts something; a cold boot without KVM is the slowest.
        static let start = Duration.seconds(240)
    }

    let endpoint: Endpoint
    private let timeout: Duration?
    private let connection: CRIConnection

    /// - Parameter timeout: the user's, instead of each request's own.
    init(endpoint: Endpoint, timeout: Duration? = nil) {
        self.endpoint = endpoint
        self.timeout = timeout
        connection = CRIConnection(endpoint: endpoint)
    }

    /// Makes one call.
    ///
    /// - Parameters:
    ///   - step: what is being done, for the error: "listing pods".
    ///   - patience: how long it may take; nil is without limit.
    /// - Throws: `SwiftletError` with the daemon's code and message.
    func call<Request, Response>(
        _ method: RPCDescriptor<Request, Response>, _ request: Request, _ step: String, within patience: Duration? = Patience.look
    ) async throws -> Response {
        let limit = timeout ?? patience
        do {
            return try await connection.call(method, request, timeout: limit)
        } catch let status as GRPCStatus {
            throw await explained(status, step, limit: limit)
        } catch let error as BinaryDecodingError {
            throw SwiftletError(.internal, "\(step): the answer of \(endpoint) cannot be read (\(method.name))", cause: error)
        }
    }

    private func explained(_ status: GRPCStatus, _ step: String, limit: Duration?) async -> SwiftletError {
        let code = SwiftletError.Code(rawValue: String(describing: status.code)) ?? .unknown
        switch status.code {
        case .unavailable:
            if let reason = await unreachable() {
                return SwiftletError(
                    .unavailable,
                    "\(step): no swiftletd at \(endpoint) (\(reason)); start swiftletd, or name its socket with --endpoint or SWIFTLET_ENDPOINT"
                )
            }
        case .deadlineExceeded:
            if let limit {
                return SwiftletError(code, "\(step): no answer within \(Units.seconds(limit)): \(status.message)")
            }
        default: break
        }
        return SwiftletError(code, "\(step): \(status.message.isEmpty ? code.rawValue : status.message)")
    }

    /// Why nobody can be reached at the endpoint; nil when somebody can.
    private func unreachable() async -> String? {
        guard case .unix(let path) = endpoint else { return "connection refused or lost" }
        return UnixSocket.connectFailure(path: path)
    }
}

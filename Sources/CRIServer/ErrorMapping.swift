import Errors
import GRPC

/// The one place where errors become gRPC statuses.
public enum ErrorMapping {
    public static func status(of error: any Error) -> GRPCStatus {
        switch error {
        case let status as GRPCStatus: status
        case let error as SwiftletError: GRPCStatus(GRPCStatus.Code(error.code), error.description)
        case is CancellationError: GRPCStatus(.cancelled, "the call was cancelled")
        default: GRPCStatus(.internal, "\(error)")
        }
    }
}

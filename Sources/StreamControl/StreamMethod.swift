import SwiftProtobuf

/// Names of the control protocol of swiftlet-streamd that are not in proto/stream/v1/stream.proto's messages.
public enum StreamContract {
    /// The service name that each ttrpc request carries.
    public static let service = "swiftlet.stream.v1.Streams"
}

/// The methods of the service, by their names in stream.proto.
public enum StreamMethodName: String, Sendable, CaseIterable {
    case getInfo = "GetInfo"
    case prepareExec = "PrepareExec"
    case preparePortForward = "PreparePortForward"
}

/// A method of the service with its message types.
public struct StreamMethod<Request: Message & Sendable, Response: Message & Sendable>: Sendable {
    public let id: StreamMethodName

    init(_ id: StreamMethodName) { self.id = id }
}

extension StreamMethod where Request == StreamGetInfoRequest, Response == StreamGetInfoResponse {
    public static var getInfo: Self { .init(.getInfo) }
}
extension StreamMethod where Request == StreamPrepareExecRequest, Response == StreamPreparedSession {
    public static var prepareExec: Self { .init(.prepareExec) }
}
extension StreamMethod where Request == StreamPreparePortForwardRequest, Response == StreamPreparedSession {
    public static var preparePortForward: Self { .init(.preparePortForward) }
}

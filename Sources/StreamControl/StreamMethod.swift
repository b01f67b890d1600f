import SwiftProtobuf

/// Names of the control protocol of swiftlet-streamd that are not in proto/stream/v1/stream.proto's messages.
public enum StreamContract {
    /// The service name that each ttrpc request carries.
    public static let service = "swiftlet.stream.v1.Streams"
    /// The feature of GetInfo that stands for the containers' logs and attach.
    public static let logs = "logs"
    /// The feature of GetInfo that stands for Configure.
    public static let configure = "configure"
    /// The feature of GetInfo that stands for the collection of logs.
    public static let collection = "collection"
    /// The feature of GetInfo that stands for logs that are rotated by size.
    public static let rotation = "rotation"
    /// The feature of GetInfo that stands for the consoles of machines, followed and attached to.
    public static let console = "console"
    /// The feature of GetInfo that stands for port-forwards by a pod's network.
    public static let network = "network"
    /// The feature of GetInfo that stands for sessions whose commands swiftletd runs.
    public static let commands = "commands"
    /// The feature of GetInfo that stands for processes of the node, attached to and joined.
    public static let conmon = "conmon"
    /// The feature of GetInfo that stands for port-forwards to the loopback of a network namespace.
    public static let loopback = "loopback"
    /// The feature of GetInfo that stands for logs that other processes write, read for collectors.
    public static let written = "written"
}

/// The methods of the service, by their names in stream.proto.
public enum StreamMethodName: String, Sendable, CaseIterable {
    case getInfo = "GetInfo"
    case prepareExec = "PrepareExec"
    case prepareAttach = "PrepareAttach"
    case preparePortForward = "PreparePortForward"
    case openLog = "OpenLog"
    case followLog = "FollowLog"
    case reopenLog = "ReopenLog"
    case waitForLog = "WaitForLog"
    case closeLog = "CloseLog"
    case keepLogs = "KeepLogs"
    case configure = "Configure"
    case awaitSession = "AwaitSession"
    case deliverOutput = "DeliverOutput"
    case joinProcess = "JoinProcess"
}

/// A method of the service with its message types.
public struct StreamMethod<Request: Message & Sendable, Response: Message & Sendable>: Sendable {
    public let id: StreamMethodName

    init(_ id: StreamMethodName) { self.id = id }
}

extension StreamMethod where Request == StreamGetInfoRequest, Response == StreamGetInfoResponse {
    public static var getInfo: Self { .init(.getInfo) }
}
extension StreamMethod where Request == StreamConfigureRequest, Response == StreamConfigureResponse {
    public static var configure: Self { .init(.configure) }
}
extension StreamMethod where Request == StreamPrepareExecRequest, Response == StreamPreparedSession {
    public static var prepareExec: Self { .init(.prepareExec) }
}
extension StreamMethod where Request == StreamPrepareAttachRequest, Response == StreamPreparedSession {
    public static var prepareAttach: Self { .init(.prepareAttach) }
}
extension StreamMethod where Request == StreamPreparePortForwardRequest, Response == StreamPreparedSession {
    public static var preparePortForward: Self { .init(.preparePortForward) }
}
extension StreamMethod where Request == StreamOpenLogRequest, Response == StreamOpenLogResponse {
    public static var openLog: Self { .init(.openLog) }
}
extension StreamMethod where Request == StreamFollowLogRequest, Response == StreamFollowLogResponse {
    public static var followLog: Self { .init(.followLog) }
}
extension StreamMethod where Request == StreamReopenLogRequest, Response == StreamReopenLogResponse {
    public static var reopenLog: Self { .init(.reopenLog) }
}
extension StreamMethod where Request == StreamWaitForLogRequest, Response == StreamWaitForLogResponse {
    public static var waitForLog: Self { .init(.waitForLog) }
}
extension StreamMethod where Request == StreamCloseLogRequest, Response == StreamCloseLogResponse {
    public static var closeLog: Self { .init(.closeLog) }
}
extension StreamMethod where Request == StreamKeepLogsRequest, Response == StreamKeepLogsResponse {
    public static var keepLogs: Self { .init(.keepLogs) }
}
extension StreamMethod where Request == StreamAwaitSessionRequest, Response == StreamAwaitSessionResponse {
    public static var awaitSession: Self { .init(.awaitSession) }
}
extension StreamMethod where Request == StreamDeliverOutputRequest, Response == StreamDeliverOutputResponse {
    public static var deliverOutput: Self { .init(.deliverOutput) }
}
extension StreamMethod where Request == StreamJoinProcessRequest, Response == StreamJoinProcessResponse {
    public static var joinProcess: Self { .init(.joinProcess) }
}

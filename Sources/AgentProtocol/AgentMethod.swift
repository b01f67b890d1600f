import SwiftProtobuf

/// The methods of the agent's service, by their names in agent.proto.
public enum AgentMethodName: String, Sendable, CaseIterable {
    case getInfo = "GetInfo"
    case prepare = "Prepare"
    case startSandbox = "StartSandbox"
    case createContainer = "CreateContainer"
    case startContainer = "StartContainer"
    case deleteContainer = "DeleteContainer"
    case exec = "Exec"
    case signal = "Signal"
    case wait = "Wait"
    case deleteProcess = "DeleteProcess"
    case list = "List"
    case openStream = "OpenStream"
    case openPort = "OpenPort"
    case resizeTerminal = "ResizeTerminal"
    case getStats = "GetStats"
    case setTime = "SetTime"
    case updateContainer = "UpdateContainer"
    case grow = "Grow"
    case shutdown = "Shutdown"
}

/// A method of the agent's service with its message types.
public struct AgentMethod<Request: Message & Sendable, Response: Message & Sendable>: Sendable {
    public let id: AgentMethodName

    init(_ id: AgentMethodName) { self.id = id }

    /// As in the proto file: "GetInfo".
    public var name: String { id.rawValue }
}

extension AgentMethod where Request == AgentGetInfoRequest, Response == AgentGetInfoResponse {
    public static var getInfo: Self { .init(.getInfo) }
}
extension AgentMethod where Request == AgentPrepareRequest, Response == AgentPrepareResponse {
    public static var prepare: Self { .init(.prepare) }
}
extension AgentMethod where Request == AgentStartSandboxRequest, Response == AgentStartSandboxResponse {
    public static var startSandbox: Self { .init(.startSandbox) }
}
extension AgentMethod where Request == AgentCreateContainerRequest, Response == AgentCreateContainerResponse {
    public static var createContainer: Self { .init(.createContainer) }
}
extension AgentMethod where Request == AgentStartContainerRequest, Response == AgentStartContainerResponse {
    public static var startContainer: Self { .init(.startContainer) }
}
extension AgentMethod where Request == AgentDeleteContainerRequest, Response == AgentDeleteContainerResponse {
    public static var deleteContainer: Self { .init(.deleteContainer) }
}
extension AgentMethod where Request == AgentExecRequest, Response == AgentExecResponse {
    public static var exec: Self { .init(.exec) }
}
extension AgentMethod where Request == AgentSignalRequest, Response == AgentSignalResponse {
    public static var signal: Self { .init(.signal) }
}
extension AgentMethod where Request == AgentWaitRequest, Response == AgentWaitResponse {
    public static var wait: Self { .init(.wait) }
}
extension AgentMethod where Request == AgentDeleteProcessRequest, Response == AgentDeleteProcessResponse {
    public static var deleteProcess: Self { .init(.deleteProcess) }
}
extension AgentMethod where Request == AgentListRequest, Response == AgentListResponse {
    public static var list: Self { .init(.list) }
}
extension AgentMethod where Request == AgentOpenStreamRequest, Response == AgentOpenStreamResponse {
    public static var openStream: Self { .init(.openStream) }
}
extension AgentMethod where Request == AgentOpenPortRequest, Response == AgentOpenPortResponse {
    public static var openPort: Self { .init(.openPort) }
}
extension AgentMethod where Request == AgentResizeTerminalRequest, Response == AgentResizeTerminalResponse {
    public static var resizeTerminal: Self { .init(.resizeTerminal) }
}
extension AgentMethod where Request == AgentGetStatsRequest, Response == AgentGetStatsResponse {
    public static var getStats: Self { .init(.getStats) }
}
extension AgentMethod where Request == AgentSetTimeRequest, Response == AgentSetTimeResponse {
    public static var setTime: Self { .init(.setTime) }
}
extension AgentMethod where Request == AgentUpdateContainerRequest, Response == AgentUpdateContainerResponse {
    public static var updateContainer: Self { .init(.updateContainer) }
}
extension AgentMethod where Request == AgentGrowRequest, Response == AgentGrowResponse {
    public static var grow: Self { .init(.grow) }
}
extension AgentMethod where Request == AgentShutdownRequest, Response == AgentShutdownResponse {
    public static var shutdown: Self { .init(.shutdown) }
}

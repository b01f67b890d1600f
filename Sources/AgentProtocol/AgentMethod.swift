import SwiftProtobuf

/// A method of the agent's service with its message types.
public struct AgentMethod<Request: Message & Sendable, Response: Message & Sendable>: Sendable {
    /// As in the proto file: "GetInfo".
    public let name: String

    init(_ name: String) { self.name = name }
}

extension AgentMethod where Request == AgentGetInfoRequest, Response == AgentGetInfoResponse {
    public static var getInfo: Self { .init("GetInfo") }
}
extension AgentMethod where Request == AgentStartSandboxRequest, Response == AgentStartSandboxResponse {
    public static var startSandbox: Self { .init("StartSandbox") }
}
extension AgentMethod where Request == AgentCreateContainerRequest, Response == AgentCreateContainerResponse {
    public static var createContainer: Self { .init("CreateContainer") }
}
extension AgentMethod where Request == AgentStartContainerRequest, Response == AgentStartContainerResponse {
    public static var startContainer: Self { .init("StartContainer") }
}
extension AgentMethod where Request == AgentDeleteContainerRequest, Response == AgentDeleteContainerResponse {
    public static var deleteContainer: Self { .init("DeleteContainer") }
}
extension AgentMethod where Request == AgentExecRequest, Response == AgentExecResponse {
    public static var exec: Self { .init("Exec") }
}
extension AgentMethod where Request == AgentSignalRequest, Response == AgentSignalResponse {
    public static var signal: Self { .init("Signal") }
}
extension AgentMethod where Request == AgentWaitRequest, Response == AgentWaitResponse {
    public static var wait: Self { .init("Wait") }
}
extension AgentMethod where Request == AgentDeleteProcessRequest, Response == AgentDeleteProcessResponse {
    public static var deleteProcess: Self { .init("DeleteProcess") }
}
extension AgentMethod where Request == AgentListRequest, Response == AgentListResponse {
    public static var list: Self { .init("List") }
}
extension AgentMethod where Request == AgentOpenStreamRequest, Response == AgentOpenStreamResponse {
    public static var openStream: Self { .init("OpenStream") }
}
extension AgentMethod where Request == AgentResizeTerminalRequest, Response == AgentResizeTerminalResponse {
    public static var resizeTerminal: Self { .init("ResizeTerminal") }
}
extension AgentMethod where Request == AgentGetStatsRequest, Response == AgentGetStatsResponse {
    public static var getStats: Self { .init("GetStats") }
}
extension AgentMethod where Request == AgentSetTimeRequest, Response == AgentSetTimeResponse {
    public static var setTime: Self { .init("SetTime") }
}
extension AgentMethod where Request == AgentUpdateContainerRequest, Response == AgentUpdateContainerResponse {
    public static var updateContainer: Self { .init("UpdateContainer") }
}
extension AgentMethod where Request == AgentGrowRequest, Response == AgentGrowResponse {
    public static var grow: Self { .init("Grow") }
}
extension AgentMethod where Request == AgentShutdownRequest, Response == AgentShutdownResponse {
    public static var shutdown: Self { .init("Shutdown") }
}

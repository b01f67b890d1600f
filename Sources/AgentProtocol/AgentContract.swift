/// Numbers and names of the host-guest contract that are not in proto/agent/v1/agent.proto's messages.
public enum AgentContract {
    /// ttrpc: control.
    public static let controlPort: UInt32 = 1024
    /// One connection for each process's input or output.
    public static let streamPort: UInt32 = 1025
    /// The service name that each ttrpc request carries.
    public static let service = "swiftlet.agent.v1.Agent"
    /// Bytes of a one-time stream token.
    public static let tokenLength = 32
    /// The guest's answer to an accepted token.
    public static let streamAccepted: UInt8 = 0
    /// The guest's answer to an unknown or used token.
    public static let streamRefused: UInt8 = 1
    /// Output bytes that the guest keeps for one process until they are acknowledged.
    public static let outputBufferSize = 1 << 20
    /// The one container of a guest that is not the agent's own: the guest itself. It has no first process and takes processes of Exec.
    public static let guestContainer = "guest"
    /// The command of a container that is only tried: the agent's own program, whatever the container's root is, which ends at once.
    public static let trial = ["/proc/self/exe", "--trial"]
    /// The CID of the host as a guest sees it (vsock(7), VMADDR_CID_HOST).
    public static let hostCID: UInt32 = 2
}

/// What an agent can do, by the names in `AgentGetInfoResponse.features`. The host asks for a feature, never for a version.
public enum AgentFeature {
    /// Containers with overlay roots, exec, signals and waits.
    public static let containers = "containers"
    /// Output streams that go on from an offset after the host has reconnected.
    public static let resumableOutput = "resumable-output"
    /// Terminals.
    public static let terminal = "terminal"
    /// Connections to ports of the pod.
    public static let ports = "ports"
    /// The guest is not the agent's own: `AgentContract.guestContainer` is the one container, and the calls that would make others, or
    /// end the guest, are UNIMPLEMENTED.
    public static let guest = "guest"
    /// `AgentProcessSpec`'s user is resolved in the container's passwd and group files.
    public static let userNames = "user-names"
}

import Errors

/// What a token allows, once.
public enum StreamRequest: Sendable, Equatable {
    case exec(ExecRequest)
    case attach(AttachRequest)
    case portForward(PortForwardRequest)

    /// The first part of its URL's path.
    var route: String {
        switch self {
        case .exec: "exec"
        case .attach: "attach"
        case .portForward: "portforward"
        }
    }

    /// Whose session it is; nil for one that is the pod's.
    var container: String? {
        switch self {
        case .exec(let request): request.containerID
        case .attach(let request): request.containerID
        case .portForward: nil
        }
    }

    /// The same for all sessions of a pod: the backend's address of it, or the id where there is none.
    var pod: String {
        switch self {
        case .exec(let request): request.pod ?? (request.address.isEmpty ? request.containerID : request.address)
        case .attach(let request): request.pod ?? (request.address.isEmpty ? request.containerID : request.address)
        case .portForward(let request): request.pod ?? (request.address.isEmpty ? request.sandboxID : request.address)
        }
    }

    /// For the log.
    var subject: String {
        switch self {
        case .exec(let request): "exec in container \(request.containerID)"
        case .attach(let request): "attach to container \(request.containerID)"
        case .portForward(let request): "port-forward into pod sandbox \(request.sandboxID)"
        }
    }
}

/// Which of a process' streams a client gets.
public struct StreamSet: Sendable, Equatable {
    public var stdin: Bool
    public var stdout: Bool
    public var stderr: Bool
    public var tty: Bool

    /// - Throws: `.invalidArgument` for no stream at all, and for stderr beside a terminal, which has one output.
    public init(stdin: Bool, stdout: Bool, stderr: Bool, tty: Bool) throws {
        guard stdin || stdout || stderr else {
            throw SwiftletError(.invalidArgument, "stdin, stdout or stderr must be asked for")
        }
        guard !tty || !stderr else { throw SwiftletError(.invalidArgument, "tty and stderr exclude each other: a terminal has one output") }
        (self.stdin, self.stdout, self.stderr, self.tty) = (stdin, stdout, stderr, tty)
    }
}

public struct ExecRequest: Sendable, Equatable {
    public var containerID: String
    /// Where the backend finds the container, in its own words.
    public var address: String
    public var command: [String]
    public var streams: StreamSet
    /// The same for all sessions of a pod; nil: the address is.
    public var pod: String?

    public init(containerID: String, address: String = "", command: [String], streams: StreamSet, pod: String? = nil) {
        (self.containerID, self.address, self.command, self.streams, self.pod) = (containerID, address, command, streams, pod)
    }
}

public struct AttachRequest: Sendable, Equatable {
    public var containerID: String
    /// Where the backend finds the container, in its own words.
    public var address: String
    public var streams: StreamSet
    /// The container's input ends with the session, if the session has it.
    public var endsInput: Bool
    /// The same for all sessions of a pod; nil: the address is.
    public var pod: String?

    public init(containerID: String, address: String = "", streams: StreamSet, endsInput: Bool = false, pod: String? = nil) {
        (self.containerID, self.address, self.streams, self.endsInput, self.pod) = (containerID, address, streams, endsInput, pod)
    }
}

public struct PortForwardRequest: Sendable, Equatable {
    public var sandboxID: String
    /// Where the backend finds the sandbox, in its own words.
    public var address: String
    /// The ports that a WebSocket's channels are for, in order; a SPDY client names its ports itself.
    public var ports: [UInt16]
    /// The same for all sessions of a pod; nil: the address is.
    public var pod: String?

    /// - Throws: `.invalidArgument` for what is no TCP port.
    public init(sandboxID: String, address: String = "", ports: [Int32], pod: String? = nil) throws {
        (self.sandboxID, self.address, self.pod) = (sandboxID, address, pod)
        self.ports = try ports.map { port in
            guard let number = UInt16(exactly: port), number > 0 else {
                throw SwiftletError(.invalidArgument, "port \(port) is not within 1 and 65535")
            }
            return number
        }
    }
}

/// Columns and rows.
public struct TerminalSize: Sendable, Equatable {
    public var width: UInt16
    public var height: UInt16

    public init(width: UInt16, height: UInt16) { (self.width, self.height) = (width, height) }
}

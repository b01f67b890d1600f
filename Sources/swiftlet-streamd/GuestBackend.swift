import ConsoleOutput
import Errors
import Logging
import Logs
import Runtime
import StreamServer

/// Processes and ports of guests, reached through their agents, and of the node's pods, reached through their conmons.
struct GuestBackend: StreamBackend {
    let guests: Guests
    let logs: LocalOutput
    let consoles = ConsoleInputs()
    let ports = NetworkPorts()
    let attachments = ConmonAttachments()
    var commands = DaemonCommands()
    let logger: Logger

    func exec(_ request: ExecRequest, size: TerminalSize?) async throws -> any ProcessSession {
        if let name = DaemonCommands.name(in: request.address) { return try commands.begin(name, request.streams, size) }
        return try await ExecSession.start(request, size: size, at: try VsockAddress(text: request.address), guests, logger: logger)
    }

    func attach(_ request: AttachRequest, size: TerminalSize?) async throws -> any ProcessSession {
        switch try OutputEndpoint(text: request.address, of: request.containerID) {
        case .agent(let address, _): try await AttachSession.start(request, size: size, at: address, guests, logs)
        case .conmon(let conmon): try await attachments.join(request, conmon, size: size)
        case .console(let log, let socket): try await ConsoleSession.start(request, log: log, socket: socket, consoles, logs)
        }
    }

    func connect(_ request: PortForwardRequest, port: UInt16) async throws -> any PortConnection {
        switch try PortEndpoint(text: request.address) {
        case .agent(let address): GuestPort(stream: try await guests.link(to: address).client().openPort(port))
        case .namespace(let path, let address): try await ports.connect(to: address, port, in: path)
        case .loopback(let path, let address, let sockets): try await ports.connect(toLoopbackOr: address, port, in: path, by: sockets)
        case .nodeLoopback: try await ports.connectToNode(port)
        }
    }
}

/// As a request of the stream server carries it.
extension VsockAddress {
    var text: String {
        switch self {
        case .unixProxy(let path): path
        case .kernel(let cid): "\(cid)"
        }
    }

    init(text: String) throws {
        if text.hasPrefix("/") {
            self = .unixProxy(path: text)
        } else if let cid = UInt32(text) {
            self = .kernel(cid: cid)
        } else {
            throw SwiftletError(.internal, "\(quoted(text)) is no guest's address")
        }
    }
}

/// As a request of the stream server carries it.
extension OutputEndpoint {
    private static let console = "console:"
    private static let conmon = "conmon:"

    var text: String {
        switch self {
        case .agent(let address, _): address.text
        case .conmon(let conmon): "\(Self.conmon)\(conmon.socket)\n\(conmon.control)\n\(conmon.hasInput)"
        case .console(let log, let socket): "\(Self.console)\(socket)\n\(log)"
        }
    }

    init(text: String, of container: String) throws {
        if text.hasPrefix(Self.conmon) {
            let parts = text.dropFirst(Self.conmon.count).split(separator: "\n").map(String.init)
            guard parts.count == 3 else { throw SwiftletError(.internal, "\(quoted(text)) is no conmon") }
            self = .conmon(ConmonEndpoint(socket: parts[0], control: parts[1], hasInput: parts[2] == "true"))
            return
        }
        guard text.hasPrefix(Self.console) else {
            self = .agent(try VsockAddress(text: text), container: container)
            return
        }
        let paths = text.dropFirst(Self.console.count).split(separator: "\n")
        guard paths.count == 2 else { throw SwiftletError(.internal, "\(quoted(text)) is no console") }
        self = .console(log: String(paths[1]), socket: String(paths[0]))
    }
}

/// As a request of the stream server carries it.
extension PortEndpoint {
    private static let network = "network:"
    private static let loopback = "loopback:"
    private static let nodeLoopback = "node loopback"

    var text: String {
        switch self {
        case .agent(let address): address.text
        case .namespace(let path, let address): "\(Self.network)\(address)\n\(path)"
        case .loopback(let path, let address, let sockets): "\(Self.loopback)\(address)\n\(path)\n\(sockets)"
        case .nodeLoopback: Self.nodeLoopback
        }
    }

    init(text: String) throws {
        guard text != Self.nodeLoopback else {
            self = .nodeLoopback
            return
        }
        if text.hasPrefix(Self.loopback) {
            let parts = text.dropFirst(Self.loopback.count).split(separator: "\n").map(String.init)
            guard parts.count == 3 else { throw SwiftletError(.internal, "\(quoted(text)) is no pod's loopback") }
            self = .loopback(path: parts[1], address: parts[0], sockets: parts[2])
            return
        }
        guard text.hasPrefix(Self.network) else {
            self = .agent(try VsockAddress(text: text))
            return
        }
        let parts = text.dropFirst(Self.network.count).split(separator: "\n")
        guard parts.count == 2 else { throw SwiftletError(.internal, "\(quoted(text)) is no pod's network") }
        self = .namespace(path: String(parts[1]), address: String(parts[0]))
    }
}

import ConsoleOutput
import Errors
import Logging
import Logs
import Runtime
import StreamServer

/// Processes and ports of guests, reached through their agents.
struct GuestBackend: StreamBackend {
    let guests: Guests
    let logs: LocalOutput
    let consoles = ConsoleInputs()
    let ports = NetworkPorts()
    var commands = DaemonCommands()
    let logger: Logger

    func exec(_ request: ExecRequest, size: TerminalSize?) async throws -> any ProcessSession {
        if let name = DaemonCommands.name(in: request.address) { return try commands.begin(name, request.streams) }
        return try await ExecSession.start(request, size: size, at: try VsockAddress(text: request.address), guests, logger: logger)
    }

    func attach(_ request: AttachRequest, size: TerminalSize?) async throws -> any ProcessSession {
        switch try OutputEndpoint(text: request.address, of: request.containerID) {
        case .agent(let address, _): try await AttachSession.start(request, size: size, at: address, guests, logs)
        case .conmon: throw SwiftletError(.unimplemented, "containers of the node cannot be attached to")
        case .console(let log, let socket): try await ConsoleSession.start(request, log: log, socket: socket, consoles, logs)
        }
    }

    func connect(_ request: PortForwardRequest, port: UInt16) async throws -> any PortConnection {
        switch try PortEndpoint(text: request.address) {
        case .agent(let address): GuestPort(stream: try await guests.link(to: address).client().openPort(port))
        case .namespace(let path, let address): try await ports.connect(to: address, port, in: path)
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

    var text: String {
        switch self {
        case .agent(let address, _): address.text
        case .conmon(let socket, let control): "conmon:\(socket)\n\(control)"
        case .console(let log, let socket): "\(Self.console)\(socket)\n\(log)"
        }
    }

    init(text: String, of container: String) throws {
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

    var text: String {
        switch self {
        case .agent(let address): address.text
        case .namespace(let path, let address): "\(Self.network)\(address)\n\(path)"
        }
    }

    init(text: String) throws {
        guard text.hasPrefix(Self.network) else {
            self = .agent(try VsockAddress(text: text))
            return
        }
        let parts = text.dropFirst(Self.network.count).split(separator: "\n")
        guard parts.count == 2 else { throw SwiftletError(.internal, "\(quoted(text)) is no pod's network") }
        self = .namespace(path: String(parts[1]), address: String(parts[0]))
    }
}

import Errors
import Linux
import Runtime

extension StreamConsole {
    init(log: String, socket: String, sandbox: String) {
        self.init()
        (self.log, self.socket, sandboxID) = (log, socket, sandbox)
    }

    /// sun_path, unix(7), with its final zero.
    private static let longestSocket = 107

    /// - Throws: `.invalidArgument` for paths that are none.
    public func endpoint() throws -> OutputEndpoint {
        guard isPath(log), isPath(socket), socket.utf8.count <= Self.longestSocket else {
            throw SwiftletError(.invalidArgument, "a console's log \(quoted(log)) or socket \(quoted(socket)) is no absolute path")
        }
        return .console(log: log, socket: socket)
    }
}

extension StreamConmon {
    init(_ conmon: ConmonEndpoint, sandbox: String) {
        self.init()
        (socket, control, hasInput_p, sandboxID) = (conmon.socket, conmon.control, conmon.hasInput, sandbox)
    }

    /// - Throws: `.invalidArgument` for paths that are none.
    public func endpoint() throws -> ConmonEndpoint {
        guard isPath(socket), isPath(control) else {
            throw SwiftletError(.invalidArgument, "conmon's socket \(quoted(socket)) or pipe \(quoted(control)) is no absolute path")
        }
        return ConmonEndpoint(socket: socket, control: control, hasInput: hasInput_p)
    }
}

extension StreamJoinProcessRequest {
    init(_ session: String, _ process: JoinableProcess, sandbox: String) {
        self.init()
        (sessionID, conmon) = (session, StreamConmon(process.conmon, sandbox: sandbox))
        (exitFile, sessionPipe) = (process.exitFile, process.sessionPipe)
    }

    /// - Throws: `.invalidArgument` for paths that are none.
    public func process() throws -> JoinableProcess {
        let conmon = try conmon.endpoint()
        guard isPath(exitFile), isPath(sessionPipe) else {
            throw SwiftletError(
                .invalidArgument, "the exit file \(quoted(exitFile)) or the pipe \(quoted(sessionPipe)) is no absolute path")
        }
        return JoinableProcess(conmon: conmon, exitFile: exitFile, sessionPipe: sessionPipe)
    }
}

extension StreamPodNetwork {
    init(namespace: String, address: String, sandbox: String) {
        self.init()
        (self.namespace, self.address, sandboxID) = (namespace, address, sandbox)
    }

    /// - Throws: `.invalidArgument` for a path or an address that is none.
    public func endpoint() throws -> PortEndpoint {
        if loopback, sockets.isEmpty { return .nodeLoopback }
        guard isPath(namespace) else {
            throw SwiftletError(.invalidArgument, "the network namespace \(quoted(namespace)) is no absolute path")
        }
        guard let ip = IPAddress(address), !ip.isUnspecified, !ip.isMulticast, !ip.isLoopback else {
            throw SwiftletError(.invalidArgument, "\(quoted(address)) is no pod's address")
        }
        guard loopback else { return .namespace(path: namespace, address: address) }
        guard isPath(sockets) else {
            throw SwiftletError(.invalidArgument, "the socket \(quoted(sockets)) of the pod's network is no absolute path")
        }
        return .loopback(path: namespace, address: address, sockets: sockets)
    }
}

extension StreamPreparePortForwardRequest {
    /// - Throws: `.invalidArgument` without one.
    public func endpoint() throws -> PortEndpoint { hasNetwork ? try network.endpoint() : .agent(try guest.vsockAddress()) }
}

extension StreamPrepareAttachRequest {
    /// - Throws: `.invalidArgument` without one.
    public func endpoint() throws -> OutputEndpoint {
        if hasConmon { return .conmon(try conmon.endpoint()) }
        return hasConsole ? try console.endpoint() : .agent(try guest.vsockAddress(), container: containerID)
    }
}

private func isPath(_ text: String) -> Bool { text.hasPrefix("/") && !text.utf8.contains { $0 == 0 || $0 == 0x0A } }

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

extension StreamPodNetwork {
    init(namespace: String, address: String, sandbox: String) {
        self.init()
        (self.namespace, self.address, sandboxID) = (namespace, address, sandbox)
    }

    /// - Throws: `.invalidArgument` for a path or an address that is none.
    public func endpoint() throws -> PortEndpoint {
        guard isPath(namespace) else {
            throw SwiftletError(.invalidArgument, "the network namespace \(quoted(namespace)) is no absolute path")
        }
        guard let ip = IPAddress(address), !ip.isUnspecified, !ip.isMulticast, !ip.isLoopback else {
            throw SwiftletError(.invalidArgument, "\(quoted(address)) is no pod's address")
        }
        return .namespace(path: namespace, address: address)
    }
}

extension StreamPreparePortForwardRequest {
    /// - Throws: `.invalidArgument` without one.
    public func endpoint() throws -> PortEndpoint { hasNetwork ? try network.endpoint() : .agent(try guest.vsockAddress()) }
}

extension StreamPrepareAttachRequest {
    /// - Throws: `.invalidArgument` without one.
    public func endpoint() throws -> OutputEndpoint {
        hasConsole ? try console.endpoint() : .agent(try guest.vsockAddress(), container: containerID)
    }
}

private func isPath(_ text: String) -> Bool { text.hasPrefix("/") && !text.utf8.contains { $0 == 0 || $0 == 0x0A } }

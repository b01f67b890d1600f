import Errors
import Runtime

extension PodRegistry {
    /// The URL at which a client runs a command in a container.
    public func prepareExec(_ id: String, _ command: [String], _ streams: SessionStreams) async throws -> String {
        guard !command.isEmpty else { throw SwiftletError(.invalidArgument, "exec: the command is missing") }
        let sessions = try requireSessions()
        let (pod, id) = try podOfContainer(id)
        switch try await pod.execEndpoint(of: id, for: streams) {
        case .streams(let endpoint): return try await sessions.exec(command, in: endpoint, of: pod.id, streams)
        case .execute:
            return try await sessions.exec(of: id, in: pod.id, streams) { [self] deliver in
                let allowance = sessionOutputs.allowance(for: pod.id)
                // The output takes the daemon's memory until the client has taken it.
                defer { withExtendedLifetime(allowance) {} }
                try await deliver(try await pod.execute(id, command, timeout: nil, output: allowance))
            }
        case .process:
            return try await sessions.exec(joining: id, in: pod.id, streams) { size, join in
                try await pod.openProcess(of: id, command, streams, size: size, join: join)
            }
        }
    }

    /// The URL at which a client joins a container's first process.
    public func prepareAttach(_ id: String, _ streams: SessionStreams) async throws -> String {
        let sessions = try requireSessions()
        let (pod, id) = try podOfContainer(id)
        let spec = try container(id).spec
        return try await sessions.attach(
            to: try await pod.endpoint(of: id, for: "attach"), of: id, in: pod.id, streams, stdinOnce: spec.stdinOnce)
    }

    /// The URL at which a client connects to ports of a sandbox.
    public func preparePortForward(_ id: String, ports: [Int32]) async throws -> String {
        if let port = ports.first(where: { !(1...65535).contains($0) }) {
            throw SwiftletError(.invalidArgument, "port-forward: port \(port) is not from 1 to 65535")
        }
        let sessions = try requireSessions()
        guard let pod = try pod(id) else { throw SwiftletError(.notFound, "pod sandbox \(id)") }
        return try await sessions.portForward(to: try await pod.readyMachine().ports, of: pod.id, ports: ports)
    }

    private func requireSessions() throws -> any ContainerSessions {
        guard let sessions = context.sessions else {
            throw SwiftletError(.unimplemented, "sessions are not served here (stream.address is empty); ExecSync runs commands")
        }
        return sessions
    }
}

extension Pod {
    /// Where a running container's guest is reached.
    func endpoint(of id: String, for act: String) async throws -> OutputEndpoint {
        try requireRunning(try container(id), for: act)
        return try await readyMachine().output(of: id)
    }

    /// Where further processes of a running container are run.
    func execEndpoint(of id: String, for streams: SessionStreams) async throws -> ExecEndpoint {
        try requireRunning(try container(id), for: "exec")
        return try await readyMachine().execEndpoint(of: id, for: streams)
    }

    func openProcess(
        of id: String, _ command: [String], _ streams: SessionStreams, size: InitialTerminalSize?,
        join: @escaping @Sendable (JoinableProcess) async throws -> Void
    ) async throws {
        try requireRunning(try container(id), for: "exec")
        try await readyMachine().openProcess(id, command, streams, size: size, join: join)
    }

    func requireRunning(_ container: Container, for act: String) throws {
        guard container.isRunning, container.removeAttempt == nil else {
            throw SwiftletError(.failedPrecondition, "container \(container.id) is \(container.state.name); \(act) needs a running one")
        }
    }
}

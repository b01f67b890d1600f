import Errors
import Foundation
import Glibc
import StreamFakes
import StreamServer
import Support
import Testing

/// `swiftlet port-forward` as a process, with a streaming server whose pod is this machine's loopback.
@Suite(.timeLimit(.minutes(2))) struct PortForwardCommandTests {
    private func withCommand(
        _ arguments: [String], _ body: @Sendable (RunningCommand, FakeDaemon, StreamServer) async throws -> Void
    ) async throws {
        let server = try await StreamServer.start(ServerConfiguration(), LocalBackend(), logger: RecordedLog().logger)
        do {
            try await FakeDaemon.serve(.init(runsUntilStopped: true), streams: server) { daemon, endpoint async throws in
                let directory = "/" + endpoint.split(separator: "/").dropFirst().dropLast().joined(separator: "/")
                func command(_ arguments: [String]) throws -> RunningCommand {
                    try RunningCommand(
                        program(), ["--endpoint", endpoint] + arguments, environment: ["SWIFTLET_LOGS": directory + "/logs"], in: directory)
                }
                let booted = try await command(["run", "-q", "-d", "--name", "web", "busybox"]).status()
                #expect(booted == 0)
                let command = try command(["port-forward"] + arguments)
                defer { command.kill(SIGKILL) }
                try await body(command, daemon, server)
            }
        } catch {
            await server.stop()
            throw error
        }
        await server.stop()
    }

    @Test(arguments: [SIGINT, SIGTERM]) func portsAreForwardedUntilASignal(_ signal: Int32) async throws {
        let echo = try EchoServer()
        let other = try EchoServer { $0.map { $0 ^ 0xFF } }
        defer {
            echo.stop()
            other.stop()
        }
        try await withCommand(["web", ":\(echo.port)", "0:\(other.port)"]) { command, _, _ in
            let ports = try await command.forwardedPorts(2)
            #expect(ports.map(\.remote) == [echo.port, other.port])
            #expect(command.output.contains("Forwarding from [::1]:\(ports[0].local) -> \(echo.port)\n"))
            let bytes = Array(randomBytes(2_000_000, seed: 5))
            let (first, second) = try await (TCPClient.exchange(ports[0].local, bytes), TCPClient.exchange(ports[1].local, bytes))
            let areRight = first == bytes && second == bytes.map { $0 ^ 0xFF }
            #expect(areRight, "\(first.count) \(second.count)")
            #expect(command.output.contains("Handling connection for \(ports[0].local)\n"))
            command.kill(signal)
            let status = await command.status()
            #expect(status == 128 + signal && command.errors == "", "\(command.errors)")
        }
    }

    @Test func aRefusedPortIsToldAndThePodsEndEndsIt() async throws {
        let echo = try EchoServer()
        echo.stop()
        try await withCommand(["--address", "127.0.0.1", "web", ":\(echo.port)"]) { command, daemon, _ in
            let port = try await command.forwardedPorts(1)[0].local
            let answer = try await TCPClient.exchange(port, [1])
            #expect(answer == [])
            try await eventually("it is told: \(command.errors)") {
                command.errors.hasPrefix("swiftlet: forwarding \(port) -> \(echo.port): forward to port \(echo.port) of pod sandbox ")
                    && command.errors.hasSuffix("Connection refused (errno 111)\n")
            }
            await daemon.end("web")
            let status = await command.status()
            #expect(status == 1 && command.errors.hasSuffix("swiftlet: pod web does not run any more\n"), "\(command.errors)")
        }
    }

    @Test func theSessionsEndEndsItWithTheReason() async throws {
        try await withCommand(["--address", "127.0.0.1", "web", ":80"]) { command, _, server in
            _ = try await command.forwardedPorts(1)
            await server.stop()
            let status = await command.status()
            #expect(status == 1)
            // The end of the connection, or a reset where the server had bytes unread.
            #expect(command.errors.hasPrefix("swiftlet: lost the connection to pod web: "))
        }
    }

    @Test func whatCannotBeForwardedIsSaid() async throws {
        let (descriptor, port) = try TCPClient.listen()
        defer { close(descriptor) }
        try await withCommand(["--address", "127.0.0.1", "web", "\(port):80"]) { command, _, _ in
            let status = await command.status()
            #expect(status == 1)
            #expect(
                command.errors
                    == "swiftlet: cannot listen on local port \(port) for 80: 127.0.0.1:\(port): Address already in use (errno 98)\n")
        }
        try await withCommand(["nobody", "80"]) { command, _, _ in
            let status = await command.status()
            #expect(status == 1 && command.errors.hasPrefix("swiftlet: nobody: no pod has this id or name"), "\(command.errors)")
        }
    }
}

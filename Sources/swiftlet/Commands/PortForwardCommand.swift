import ArgumentParser
import CRI
import Errors
import Glibc
import StreamClient

struct PortForwardCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "port-forward", abstract: "Forwards local ports to ports of a pod.",
        usage: "swiftlet port-forward [<options>] <pod> [<local>:]<remote> ...",
        discussion: """
            8080:80 forwards local port 8080 to the pod's port 80, 80 the one of the same number, :80 one that is free, which is printed. \
            It goes on until Ctrl-C, or until the pod has gone. The pod's side is its loopback interface or its address, from within. \
            With --stdio nothing is listened on: standard input and output are one connection, as ssh's ProxyCommand has it.
            """)

    @OptionGroup var connection: ConnectionOptions

    @Option(
        help: ArgumentHelp("Where to listen: IP addresses or localhost, with commas between them; may be repeated.", valueName: "address"))
    var address: [String] = ["localhost"]

    @OptionGroup var session: SessionOptions

    @Flag(help: "Join standard input and output with one port of the pod, until both have ended.")
    var stdio = false

    @Argument(help: "Id or name of a pod.")
    var pod: String

    @Argument(help: ArgumentHelp("Ports: REMOTE, LOCAL:REMOTE or :REMOTE.", valueName: "ports"), transform: ForwardedPort.init(parsing:))
    var ports: [ForwardedPort]

    func validate() throws {
        _ = try address.map(ListenAddress.parse)
        if stdio, ports.count != 1 || ports[0].local != ports[0].remote { throw ValidationError("--stdio takes one port of the pod") }
    }

    func run() async throws {
        let daemon = try connection.daemon()
        let connector = try session.connector()
        let id = try await Targets.load(from: daemon).resolve(pod, as: .pod).id
        if stdio { return try await join(id, ports[0].remote, daemon, connector) }
        let work = Task { try await forward(id, daemon, connector) }
        let interrupts = Interrupts {
            work.cancel()
        } again: { signal in
            Glibc.exit(128 + signal)
        }
        let outcome = await work.result
        if let signal = withExtendedLifetime(interrupts, { $0.signal }) { throw ExitCode(128 + signal) }
        try outcome.get()
    }

    /// - Throws: what has ended the forwarding.
    private func forward(_ id: String, _ daemon: Daemon, _ connector: SessionConnector) async throws {
        let addresses = try address.flatMap(ListenAddress.parse)
        let local = try await LocalPorts(ports, at: addresses) { error in
            Terminal.error("swiftlet: \(Terminal.oneLine("\(error)")); the others are listened on\n")
        }
        do {
            let forwarder = try await forwarder(id, daemon, connector)
            for (listener, remote) in local.listeners { Terminal.output("Forwarding from \(listener.name) -> \(remote)\n") }
            try await run(forwarder, local, id, daemon)
        } catch {
            await local.close()
            throw error
        }
    }

    private func forwarder(_ id: String, _ daemon: Daemon, _ connector: SessionConnector) async throws -> PortForwarder {
        let url = try await daemon.call(
            RuntimeRPC.portForward,
            .with {
                $0.podSandboxID = id
                $0.port = ports.map { Int32($0.remote) }
            }, "forwarding ports of pod \(pod)"
        ).url
        return PortForwarder(try await SPDYSession.connect(to: url, versions: [PortForwarder.version], by: connector))
    }

    private func join(_ id: String, _ port: UInt16, _ daemon: Daemon, _ connector: SessionConnector) async throws {
        // A reader that has gone is an error of write(2) then.
        signal(SIGPIPE, SIG_IGN)
        let forwarder = try await forwarder(id, daemon, connector)
        let local = try await LocalStream(input: STDIN_FILENO, output: STDOUT_FILENO)
        do {
            try await forwarder.forward(local.stream, to: port)
        } catch {
            throw SwiftletError.wrap(error, "port \(port) of pod \(pod)", code: .unavailable)
        }
        await local.closed()
    }

    private func run(_ forwarder: PortForwarder, _ local: LocalPorts, _ id: String, _ daemon: Daemon) async throws {
        let pod = pod
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                let end = await forwarder.run(
                    local.listeners,
                    opened: { listener, _ in Terminal.output("Handling connection for \(listener.port)\n") },
                    failed: { listener, remote, error in
                        Terminal.error("swiftlet: forwarding \(listener.port) -> \(remote): \(Terminal.oneLine("\(error)"))\n")
                    })
                throw SwiftletError.wrap(end, "lost the connection to pod \(pod)", code: .unavailable)
            }
            group.addTask { throw try await PodWatch.end(of: id, name: pod, daemon) }
            defer { group.cancelAll() }
            try await group.next()
        }
    }
}

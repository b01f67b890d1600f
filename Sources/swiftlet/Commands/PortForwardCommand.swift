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
            It goes on until Ctrl-C, or until the pod has gone. The pod's side is its loopback interface or its address, from within.
            """)

    @OptionGroup var connection: ConnectionOptions

    @Option(
        help: ArgumentHelp("Where to listen: IP addresses or localhost, with commas between them; may be repeated.", valueName: "address"))
    var address: [String] = ["localhost"]

    @OptionGroup var session: SessionOptions

    @Argument(help: "Id or name of a pod.")
    var pod: String

    @Argument(help: ArgumentHelp("Ports: REMOTE, LOCAL:REMOTE or :REMOTE.", valueName: "ports"), transform: ForwardedPort.init(parsing:))
    var ports: [ForwardedPort]

    func validate() throws { _ = try address.map(ListenAddress.parse) }

    func run() async throws {
        let daemon = try connection.daemon()
        let connector = try session.connector()
        let id = try await Targets.load(from: daemon).resolve(pod, as: .pod).id
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
            let url = try await daemon.call(
                RuntimeRPC.portForward,
                .with {
                    $0.podSandboxID = id
                    $0.port = ports.map { Int32($0.remote) }
                }, "forwarding ports of pod \(pod)"
            ).url
            let session = try await SPDYSession.connect(to: url, versions: [PortForwarder.version], by: connector)
            for (listener, remote) in local.listeners { Terminal.output("Forwarding from \(listener.name) -> \(remote)\n") }
            try await run(PortForwarder(session), local, id, daemon)
        } catch {
            await local.close()
            throw error
        }
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

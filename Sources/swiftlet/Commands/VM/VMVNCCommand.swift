import ArgumentParser
import CRI
import Errors
import FoundationEssentials
import Glibc
import StreamClient

struct VMVNCCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vnc", abstract: "Prints the unix socket of a machine's VNC server; shows its screen, or serves it on a local port.",
        discussion: """
            The socket has no password: it is root's, and --proxy serves it on this machine's loopback interface alone, where every user \
            of this machine can connect. It goes on until Ctrl-C, for any viewer: swiftlet vm vnc --proxy 5901 VM, and vncviewer 127.0.0.1:5901.
            """)

    @OptionGroup var connection: ConnectionOptions

    @Option(help: ArgumentHelp("Write what the screen shows to a PNG file; - for standard output.", valueName: "file"))
    var screenshot: String?

    @Option(
        help: ArgumentHelp(
            "Serve on this port, 0 for one that is free, of 127.0.0.1 or of another loopback address.", valueName: "[address:]port"))
    var proxy: LoopbackPort?

    @Argument(help: "Id or name of a pod or a container.")
    var machine: String

    func validate() throws {
        if screenshot != nil, proxy != nil { throw ValidationError("--screenshot and --proxy do not go together") }
    }

    func run() async throws {
        let daemon = try connection.daemon()
        if let screenshot { return try await write(screenshot, daemon) }
        let found = try await VMTarget.find(machine, daemon)
        _ = try found.container
        let socket = found.description.vncSocket
        guard !socket.isEmpty else {
            throw SwiftletError(
                .failedPrecondition, "\(machine): the machine has no screen (its pod's annotation swiftlet/graphics is none)")
        }
        guard let proxy else { return Terminal.output(socket + "\n") }
        try await serve(socket, on: proxy)
    }

    private func write(_ file: String, _ daemon: Daemon) async throws {
        let target = try await Targets.load(from: daemon).resolve(machine)
        let reply = try await daemon.call(
            OperatorRPC.screenshot, .with { $0.id = target.id }, "looking at the screen of \(machine)", within: Daemon.Patience.end)
        if file == "-" { return Terminal.write(reply.png, to: STDOUT_FILENO) }
        do {
            try Data(reply.png).write(to: URL(filePath: file), options: .atomic)
        } catch {
            throw SwiftletError(.internal, "writing \(file)", cause: error)
        }
    }

    private func serve(_ socket: String, on place: LoopbackPort) async throws {
        // Found out before a viewer comes.
        let probe = try await LocalStream(connectingTo: socket)
        probe.stream.reset()
        let listener = try await PortListener(place.address, port: place.port)
        Terminal.output("Serving \(machine) on \(listener.name)\n")
        let work = Task {
            await SocketProxy(socket: socket).run(listener) { error in
                Terminal.error("swiftlet: \(Terminal.oneLine("\(error)"))\n")
            }
        }
        let interrupts = Interrupts {
            work.cancel()
            Task { await listener.close() }
        } again: { signal in
            Glibc.exit(128 + signal)
        }
        await work.value
        if let signal = withExtendedLifetime(interrupts, { $0.signal }) { throw ExitCode(128 + signal) }
    }
}

/// Where a screen is served: "5901", "127.0.0.2:5901", "[::1]:5901".
struct LoopbackPort: ExpressibleByArgument, Equatable, Sendable {
    var address = "127.0.0.1"
    /// 0: one that is free.
    let port: UInt16

    /// - Returns: nil for what is none, and for addresses that others can reach.
    init?(argument: String) {
        let digits: Substring
        if let colon = argument.lastIndex(of: ":") {
            var host = argument[..<colon]
            if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
            guard !host.isEmpty else { return nil }
            address = host == "localhost" ? "127.0.0.1" : String(host)
            digits = argument[argument.index(after: colon)...]
        } else {
            digits = argument[...]
        }
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = UInt16(digits) else { return nil }
        self.port = port
        var (four, six) = (in_addr(), in6_addr())
        if inet_pton(AF_INET, address, &four) == 1 {
            guard UInt32(bigEndian: four.s_addr) >> 24 == 127 else { return nil }
        } else if inet_pton(AF_INET6, address, &six) == 1 {
            var loopback = in6addr_loopback
            guard memcmp(&six, &loopback, MemoryLayout<in6_addr>.size) == 0 else { return nil }
        } else {
            return nil
        }
    }
}

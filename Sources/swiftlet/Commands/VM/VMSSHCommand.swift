import ArgumentParser
import CRI
import Errors
import FoundationEssentials
import Glibc

struct VMSSHCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ssh", abstract: "Logs in to a machine with the system's ssh, or lets keys log in.",
        usage: "swiftlet vm ssh [<options>] [<user>@]<vm> [-- <argument> ...]",
        discussion: """
            ssh goes through Swiftlet's port-forward to the pod's port 22. Host keys are kept by container in ~/.ssh/swiftlet_known_hosts; \
            what follows -- is the command. With --add-key nothing is run: the file's keys are added to the user's authorized_keys \
            by qemu-guest-agent while the machine runs.
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var session: SessionOptions

    @Option(name: [.customShort("i"), .long], help: ArgumentHelp("ssh's -i; may be repeated.", valueName: "file"))
    var identityFile: [String] = []

    @Option(name: [.customShort("l"), .customLong("login")], help: ArgumentHelp("Who logs in, as USER@ does.", valueName: "user"))
    var login: String?

    @Option(name: .shortAndLong, help: "Port of the pod.")
    var port: UInt16 = 22

    @Option(
        name: [.customShort("o"), .customLong("option")],
        help: ArgumentHelp("ssh's -o, before Swiftlet's own; may be repeated.", valueName: "name=value"))
    var options: [String] = []

    @Option(help: ArgumentHelp("Let the public keys of this file log in; may be repeated. (default user: root)", valueName: "file"))
    var addKey: [String] = []

    @Argument(help: ArgumentHelp("Id or name of a pod or a container, after USER@ if need be.", valueName: "vm"))
    var machine: String

    @Argument(parsing: .postTerminator, help: "A command instead of a shell, after --.")
    var command: [String] = []

    private var place: SSHPlace { SSHPlace(machine, login: login) }

    func validate() throws {
        guard !place.machine.isEmpty, place.user?.isEmpty != true else { throw ValidationError("\(machine) is no [USER@]VM") }
        guard port > 0 else { throw ValidationError("--port has to be a number from 1 to 65535") }
        if let user = place.user, user.hasPrefix("-") { throw ValidationError("\(user) is no user's name") }
        if !addKey.isEmpty, !command.isEmpty { throw ValidationError("--add-key runs no command") }
    }

    func run() async throws {
        let daemon = try connection.daemon()
        let found = try await VMTarget.find(place.machine, daemon)
        let container = try found.container
        guard addKey.isEmpty else { return try await addKeys(container, daemon) }
        guard let program = realpath("/proc/self/exe", nil) else { throw SwiftletError.system("find this program") }
        defer { free(program) }
        let proxy =
            [String(cString: program), "--endpoint", "\(daemon.endpoint)", "port-forward", "--stdio"]
            + (session.tlsCa.map { ["--tls-ca", $0] } ?? []) + [found.target.podID, "\(port)"]
        let call = SSHCall(
            proxy: proxy, identities: identityFile, options: options, user: place.user, host: found.target.names[0], container: container,
            command: command)
        try ProgramInPlace.run("ssh", call.arguments)
    }

    private func addKeys(_ container: String, _ daemon: Daemon) async throws {
        let lines = try addKey.flatMap { file throws -> [String] in
            do {
                return try String(contentsOf: URL(filePath: file), encoding: .utf8).split(whereSeparator: \.isNewline).map { String($0) }
            } catch {
                throw SwiftletError(.notFound, "reading \(file)", cause: error)
            }
        }
        let keys = lines.filter { line in !line.hasPrefix("#") && !line.allSatisfy(\.isWhitespace) }
        if let secret = keys.first(where: { $0.contains("PRIVATE KEY") }) {
            throw SwiftletError(.invalidArgument, "--add-key: \(secret): this is a private key; name the file that ends in .pub")
        }
        guard !keys.isEmpty else {
            throw SwiftletError(.invalidArgument, "--add-key: there is no key in \(addKey.joined(separator: ", "))")
        }
        let user = place.user ?? "root"
        _ = try await daemon.call(
            OperatorRPC.addAuthorizedKeys,
            .with {
                ($0.id, $0.user, $0.keys) = (container, user, keys)
            }, "adding keys to \(place.machine)", within: Daemon.Patience.end)
        Terminal.output("\(keys.count) \(keys.count == 1 ? "key" : "keys") of \(user) added\n")
    }
}

/// "user@vm".
struct SSHPlace: Equatable {
    let user: String?
    let machine: String

    /// - Parameter login: who logs in where the text does not say.
    init(_ text: String, login: String?) {
        if let at = text.lastIndex(of: "@") {
            (user, machine) = (String(text[..<at]), String(text[text.index(after: at)...]))
        } else {
            (user, machine) = (login, text)
        }
    }
}

/// The command line of ssh(1).
struct SSHCall: Equatable {
    /// What ssh speaks with the pod's port through: a program and its arguments.
    var proxy: [String]
    var identities: [String] = []
    var options: [String] = []
    var user: String?
    /// The pod's name, for ssh's configuration and messages.
    var host: String
    /// Host keys are known by it: another one of the same name is another machine.
    var container: String
    var command: [String] = []

    /// Without the program's name.
    var arguments: [String] {
        // ssh takes the first of each option: the user's come before ours.
        let given = identities.flatMap { ["-i", $0] } + options.flatMap { ["-o", $0] }
        let own = [
            "ProxyCommand=\(Self.shellLine(proxy))", "HostKeyAlias=swiftlet-\(Units.short(container))", "CheckHostIP=no",
            "UserKnownHostsFile=~/.ssh/swiftlet_known_hosts", "StrictHostKeyChecking=accept-new",
        ]
        return given + own.flatMap { ["-o", $0] } + (user.map { ["-l", $0] } ?? []) + ["--", destination] + command
    }

    /// A name that is no option and no user's either.
    private var destination: String {
        let isName = !host.isEmpty && !host.hasPrefix("-") && host.utf8.allSatisfy(Self.isPlain)
        return isName ? host : "swiftlet-\(Units.short(container))"
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
            true
        default: false
        }
    }

    /// As the user's shell reads it, with ssh's percent signs doubled.
    private static func shellLine(_ words: [String]) -> String {
        words.map { "'" + $0.replacing("'", with: #"'\''"#).replacing("%", with: "%%") + "'" }.joined(separator: " ")
    }
}

/// Another program in the place of this one.
enum ProgramInPlace {
    /// - Throws: where the program is not found in $PATH, or cannot be started.
    static func run(_ name: String, _ arguments: [String]) throws -> Never {
        // Threads of this process have signals blocked that the program is to get, and what is ignored stays so.
        var none = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, nil)
        signal(SIGPIPE, SIG_DFL)
        var words = ([name] + arguments).map { strdup($0) } + [nil]
        execvp(name, &words)
        throw SwiftletError.system("run \(name)")
    }
}

import ArgumentParser
import Errors
import Glibc

struct CopyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cp", abstract: "Copies files and directories between a container and this machine.",
        usage: "swiftlet cp [<options>] CONTAINER:PATH PATH | PATH CONTAINER:PATH",
        discussion: """
            A container is named as POD/CONTAINER where others have its name. It needs tar. Into a directory that exists goes a copy of the same name, otherwise the path is the copy's own; \
            DIRECTORY/. stands for its contents. - is a tar archive on standard output or standard input. Symbolic links are copied as \
            such; devices and the like, owners and set-user-ID bits are not.
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var session: SessionOptions

    @Argument(help: "What is copied.")
    var source: CopyPlace

    @Argument(help: "Where it goes.")
    var destination: CopyPlace

    func validate() throws {
        switch (source, destination) {
        case (.container, .local), (.container, .stream), (.local, .container), (.stream, .container): break
        default: throw ValidationError("one side is CONTAINER:PATH, the other a path of this machine or -")
        }
    }

    func run() async throws {
        switch (source, destination) {
        case (.container(let container, let path), .local(let local)):
            report(try await copy(container, "copying \(path) from \(container)") { try await $0.receive(path, to: local) })
        case (.container(let container, let path), .stream):
            guard isatty(STDOUT_FILENO) == 0 else { throw ValidationError("standard output is a terminal; an archive is no text") }
            try await copy(container, "copying \(path) from \(container)") { try await $0.receiveArchive(of: path) }
        case (.local(let local), .container(let container, let path)):
            report(try await copy(container, "copying \(local) to \(container)") { try await $0.send(local, to: path) })
        case (.stream, .container(let container, let path)):
            try await copy(container, "copying to \(container)") { try await $0.sendArchive(to: path) }
        default: break
        }
    }

    private func copy<Value>(
        _ container: String, _ step: String, _ body: (ContainerCopy) async throws -> Value
    ) async throws -> Value {
        let daemon = try connection.daemon()
        let connector = try session.connector()
        let id = try await Targets.load(from: daemon).resolve(container, as: .container).id
        do {
            return try await body(try ContainerCopy(ContainerExec(daemon: daemon, connector: connector, container: id)))
        } catch is SessionDescriptors.ReaderGone {
            // As a program ends that SIGPIPE kills: quietly.
            throw ExitCode(128 + SIGPIPE)
        } catch {
            throw SwiftletError.wrap(error, step)
        }
    }

    private func report(_ leftOut: [String]) {
        for path in leftOut { Terminal.error("swiftlet: left out, neither file, directory nor link: \(Terminal.oneLine(path))\n") }
    }
}

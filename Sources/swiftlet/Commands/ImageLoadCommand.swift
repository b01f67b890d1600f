import ArgumentParser
import CRI
import Errors
import Glibc

struct ImageLoadCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load", abstract: "Takes in the images of an OCI archive or an OCI layout directory; prints their names.")

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var format: OutputOptions

    @Option(help: "The image's name, where the archive gives none.")
    var name: String?

    @Argument(help: "The archive or directory, on the node.")
    var path: String

    private struct Loaded: Encodable {
        var id: String
        var references: [String]
    }

    func run() async throws {
        let daemon = try connection.daemon()
        guard let resolved = realpath(path, nil) else {
            throw SwiftletError(.notFound, "loading \(path): \(String(cString: strerror(errno)))")
        }
        defer { free(resolved) }
        let absolute = String(cString: resolved)
        let reply = try await daemon.call(
            OperatorRPC.loadImage,
            .with {
                $0.path = absolute
                $0.reference = name ?? ""
            }, "loading \(path)", within: nil)
        switch format.output {
        case .json: Terminal.output(try JSONText.of(reply.images.map { Loaded(id: $0.id, references: $0.references) }))
        case .text:
            for image in reply.images {
                let names = image.references.isEmpty ? [image.id] : image.references
                for name in names { Terminal.output(Terminal.printable(name) + "\n") }
            }
        }
    }
}

import ArgumentParser
import CRI
import Errors
import Glibc

struct ImageLoadCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load",
        abstract: "Takes in the images of an OCI archive or an OCI layout directory, or a machine's disk; prints their names.",
        discussion: """
            A disk image is known by its ending (.qcow2, .raw or .img, also with .gz or .zst behind it) or by its content. Its id is \
            the sha256 of the file. Pods of the RuntimeClass whose handler is vm run it.
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var format: OutputOptions

    @Option(help: "The image's name, where the archive gives none; a disk's is otherwise made of its file name.")
    var name: String?

    enum DiskFormat: String, ExpressibleByArgument, CaseIterable {
        case raw, qcow2
    }

    @Option(help: "The file is a disk image of this format, whatever it looks like.")
    var diskFormat: DiskFormat?

    @Argument(help: "The archive, directory or disk image, on the node.")
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
                $0.diskFormat = diskFormat?.rawValue ?? ""
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

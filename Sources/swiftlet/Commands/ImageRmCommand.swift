import ArgumentParser
import CRI
import Errors

struct ImageRmCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Removes images, each with all its names.")

    @OptionGroup var connection: ConnectionOptions

    @Argument(help: "Names or ids.")
    var images: [String]

    func run() async throws {
        let daemon = try connection.daemon()
        let known = try await daemon.call(ImageRPC.listImages, CRIListImagesRequest(), "listing images").images
        var failed = false
        for name in images {
            do {
                let id = try await Self.id(of: name, among: known, daemon)
                _ = try await daemon.call(
                    ImageRPC.removeImage, .with { $0.image.image = id }, "removing image \(name)", within: Daemon.Patience.end)
                Terminal.output(name + "\n")
            } catch {
                failed = true
                Terminal.error("swiftlet: \(Terminal.oneLine("\(error)"))\n")
            }
        }
        if failed { throw ExitCode.failure }
    }

    /// Removing an absent image is no error to the daemon; to a person who mistyped its name it is.
    private static func id(of name: String, among known: [CRIImage], _ daemon: Daemon) async throws -> String {
        let byPrefix = known.filter { name.count >= 4 && ($0.id.hasPrefix(name) || $0.id.hasPrefix("sha256:\(name)")) }
        if byPrefix.count == 1 { return byPrefix[0].id }
        let reply = try await daemon.call(ImageRPC.imageStatus, .with { $0.image.image = name }, "looking for image \(name)")
        guard reply.hasImage else {
            let reason = byPrefix.isEmpty ? "no such image; see swiftlet image ls" : "ambiguous, \(byPrefix.count) ids begin with it"
            throw SwiftletError(byPrefix.isEmpty ? .notFound : .invalidArgument, "removing image \(name): \(reason)")
        }
        return reply.image.id
    }
}

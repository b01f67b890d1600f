import ArgumentParser
import CRI

struct ImagePullCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pull", abstract: "Fetches an image from its registry; prints its id.")

    @OptionGroup var connection: ConnectionOptions

    @Flag(name: [.short, .long], help: "No progress on standard error.")
    var quiet = false

    @Argument(help: "registry/name:tag or registry/name@sha256:...")
    var image: String

    func run() async throws {
        let daemon = try connection.daemon()
        let id = try await Progress(isQuiet: quiet).during("pulling \(image)") {
            try await ImagePull.pull(image, daemon)
        }
        Terminal.output(id + "\n")
    }
}

enum ImagePull {
    /// Pulls an image, however long it takes: the daemon watches the progress.
    ///
    /// - Returns: the image's id.
    static func pull(_ image: String, _ daemon: Daemon) async throws -> String {
        try await daemon.call(
            ImageRPC.pullImage,
            .with {
                $0.image.image = image
                $0.image.userSpecifiedImage = image
            }, "pulling \(image)", within: nil
        ).imageRef
    }
}

import ArgumentParser
import CRI

struct PsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ps", abstract: "Lists pods with their containers.")

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var format: OutputOptions

    @Flag(name: [.short, .long], help: "Also pods that are not ready and containers that do not run.")
    var all = false

    func run() async throws {
        let daemon = try connection.daemon()
        let listing = try await PodListing.load(from: daemon, all: all)
        switch format.output {
        case .json: Terminal.output(try JSONText.of(listing))
        case .text: Terminal.output(listing.table(now: Units.now()).rendered())
        }
    }
}

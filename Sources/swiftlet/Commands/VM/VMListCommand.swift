import ArgumentParser
import CRI

struct VMListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Lists virtual machines.",
        discussion: """
            States: running; paused, by vm pause; disk-full, until there is room on the node; stopping; crashed. A machine that does not \
            run has its container's: created or exited.
            """, aliases: ["ls"])

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var format: OutputOptions

    @Flag(name: [.short, .long], help: "Also machines that do not run.")
    var all = false

    func run() async throws {
        let listing = try await VMListing.load(from: try connection.daemon(), all: all)
        switch format.output {
        case .json: Terminal.output(try JSONText.of(listing))
        case .text: Terminal.output(listing.table.rendered())
        }
    }
}

struct VMDumpXMLCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dumpxml", abstract: "Prints libvirt's XML of a machine as it runs; also of one that has containers in it.")

    @OptionGroup var connection: ConnectionOptions

    @Argument(help: "Id or name of a pod or a container.")
    var machine: String

    func run() async throws {
        let found = try await VMTarget.find(machine, try connection.daemon(), withXML: true)
        let xml = found.description.xml
        Terminal.output(xml.hasSuffix("\n") ? xml : xml + "\n")
    }
}

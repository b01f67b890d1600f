import ArgumentParser

struct ImageCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "image", abstract: "Fetches, lists and removes images.",
        subcommands: [ImagePullCommand.self, ImageLoadCommand.self, ImageLsCommand.self, ImageRmCommand.self])
}

import ArgumentParser
import CRI

struct ImageLsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "Lists the images on the node.")

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var format: OutputOptions

    func run() async throws {
        let daemon = try connection.daemon()
        let images = try await daemon.call(ImageRPC.listImages, CRIListImagesRequest(), "listing images").images
        switch format.output {
        case .json: Terminal.output(try JSONText.of(images.map(ImageRow.init)))
        case .text: Terminal.output(ImageRow.table(images.map(ImageRow.init)).rendered())
        }
    }
}

/// An image as `image ls` shows it. Its JSON form is part of the command's interface.
struct ImageRow: Encodable, Equatable {
    var id: String
    var tags: [String]
    var digests: [String]
    /// Bytes.
    var size: UInt64
    var pinned: Bool

    init(_ image: CRIImage) {
        id = image.id
        tags = image.repoTags
        digests = image.repoDigests
        size = image.size
        pinned = image.pinned
    }

    /// A row for each tag; an image without one goes by its digest.
    static func table(_ images: [ImageRow]) -> Table {
        var table = Table(["IMAGE", "TAG", "ID", "SIZE"])
        for image in images.sorted(by: { ($0.tags.first ?? "~", $0.id) < ($1.tags.first ?? "~", $1.id) }) {
            let names = image.tags.isEmpty ? [nameWithoutTag(image.digests.first ?? "")] : image.tags.map(split)
            for name in names {
                table.rows.append([name.0, name.1, Units.short(image.id), Units.size(image.size)])
            }
        }
        return table
    }

    /// "host:5000/name:tag": the tag is what follows a colon behind the last slash.
    private static func split(_ reference: String) -> (String, String) {
        let start = reference.lastIndex(of: "/") ?? reference.startIndex
        guard let colon = reference[start...].lastIndex(of: ":") else { return (reference, "") }
        return (String(reference[..<colon]), String(reference[reference.index(after: colon)...]))
    }

    private static func nameWithoutTag(_ digest: String) -> (String, String) {
        (String(digest.split(separator: "@").first ?? ""), "")
    }
}

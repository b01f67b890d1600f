import Errors
import Foundation
import Linux

/// A way to store images outside of registries.
protocol ImageFormat: Sendable {
    /// For messages.
    static var name: String { get }

    /// The images in `archive`, or nil when it is not of this format. Blocks.
    static func images(in archive: ImageArchive, platform: Platform) throws -> [ArchivedImage]?
}

/// An image found in an archive, its layers still as they lie there.
struct ArchivedImage: Sendable {
    struct Layer: Sendable {
        var name: String
        var blob: BlobSource
        /// What the archive says; nil when it says nothing.
        var compression: Compression?
    }

    /// Tagged references the archive gives it.
    var references: [ImageReference]
    /// Digest of the manifest or index, where the format has one.
    var manifestDigest: Digest?
    var config: Data
    /// Lowest first.
    var layers: [Layer]
}

/// The formats `load` knows, asked in this order.
let imageFormats: [any ImageFormat.Type] = [OCILayout.self, DockerArchive.self]

import Errors

/// What the images of one archive may ask of the daemon's memory together, whatever its index repeats.
struct ArchiveBudget {
    /// More images than anybody puts into one archive.
    static let maximumImages = 1000
    /// Bytes of the manifests and configurations read, each as often as it is named.
    static let maximumBytes = 64 << 20

    private let path: String
    private var images = 0
    private var bytes = 0

    /// - Parameter path: the archive, for messages.
    init(path: String) {
        self.path = path
    }

    /// Counts an image before its layers are looked up.
    ///
    /// - Throws: `SwiftletError(.invalidArgument)` for more layers than can be stacked, `.resourceExhausted` for too many images.
    mutating func addImage(layers: Int) throws {
        images += 1
        guard images <= Self.maximumImages else {
            throw SwiftletError(.resourceExhausted, "\(path): more than the \(Self.maximumImages) images an archive may have")
        }
        guard layers <= ManifestDocument.maximumLayers else {
            throw SwiftletError(
                .invalidArgument, "\(path): an image of \(layers) layers, at most \(ManifestDocument.maximumLayers) can be stacked")
        }
    }

    /// Counts a manifest or configuration that was read.
    mutating func addDocument(bytes count: Int) throws {
        bytes += count
        guard bytes <= Self.maximumBytes else {
            throw SwiftletError(.resourceExhausted, "\(path): manifests and configurations of more than \(Self.maximumBytes) bytes")
        }
    }
}

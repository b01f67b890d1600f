/// A disk image as the machine of a VM pod gets it: read-only, below an overlay of the machine's own.
public struct DiskImage: Sendable, Codable, Equatable {
    public enum Format: String, Sendable, Codable {
        case raw
        case qcow2
    }

    /// A file that nobody writes and that QEMU's users may read.
    public var path: String
    /// As it was found when the image was taken in; nobody looks for it again.
    public var format: Format
    /// Bytes that the guest sees.
    public var virtualSize: UInt64
    /// `sha256:…` of the file.
    public var digest: String

    public init(path: String, format: Format, virtualSize: UInt64, digest: String) {
        self.path = path
        self.format = format
        self.virtualSize = virtualSize
        self.digest = digest
    }
}

/// What an image holds: a container's root, or a machine's disk.
public enum ImageContent: Sendable, Equatable {
    /// Lowest first; at least one; no layer twice.
    case layers([LayerImage])
    case disk(DiskImage)

    /// None for a disk.
    public var layers: [LayerImage] {
        switch self {
        case .layers(let layers): layers
        case .disk: []
        }
    }

    /// Nil for layers.
    public var disk: DiskImage? {
        switch self {
        case .layers: nil
        case .disk(let disk): disk
        }
    }
}

/// One member of a tar, as its headers describe it. Paths are bytes: a tar knows no encoding.
struct TarEntry: Sendable {
    enum Kind: Sendable, Equatable {
        case file, directory, symlink, hardLink, characterDevice, blockDevice, fifo
    }

    var kind: Kind
    var path: [UInt8]
    var linkPath: [UInt8] = []
    /// Permission bits with set-user-ID, set-group-ID and sticky.
    var mode: UInt16 = 0
    var uid: UInt32 = 0
    var gid: UInt32 = 0
    /// Bytes of the file, its holes counted; 0 for what is not a file.
    var size: UInt64 = 0
    /// Where the data of a file with holes lies.
    var sparse: SparseMap?
    /// Unix time in seconds.
    var mtime: Int64 = 0
    var mtimeNanoseconds: UInt32 = 0
    var deviceMajor: UInt32 = 0
    var deviceMinor: UInt32 = 0
    var xattrs: [ExtendedAttribute] = []

    /// Bytes that the tar does not hold.
    var holeBytes: UInt64 { sparse.map { $0.size - $0.dataBytes } ?? 0 }

    /// The path for error messages.
    var displayPath: String {
        "\"" + String(decoding: path.prefix(200), as: UTF8.self).filter { $0 >= " " } + "\""
    }
}

/// A part of a file's data.
enum DataPiece {
    case bytes(UnsafeRawBufferPointer)
    case zeros(UInt64)
}

struct ExtendedAttribute: Sendable, Equatable {
    var name: [UInt8]
    var value: [UInt8]
}

/// What in a layer has a meaning only above the layers below it. Kept in the volume name of its disk image; layers of releases that knew
/// of no marks have none.
struct LayerMarks: OptionSet, Sendable {
    let rawValue: UInt8

    /// Directories that paths imply.
    static let impliedDirectories = LayerMarks(rawValue: 1)
    /// Hard links to files that are not in the layer.
    static let foreignLinks = LayerMarks(rawValue: 2)
    /// The tar does not name the root directory, as most do not.
    static let impliedRoot = LayerMarks(rawValue: 4)

    /// Of `volume_name` in the superblock. Bytes.
    static let offset = 64
    private static let prefix = Array("swiftlet-".utf8)

    init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The 16 bytes.
    var volumeName: [UInt8] {
        let name = Self.prefix + [UInt8(ascii: "0") + rawValue]
        return name + [UInt8](repeating: 0, count: 16 - name.count)
    }

    init(volumeName: some Collection<UInt8>) {
        let digits = volumeName.dropFirst(Self.prefix.count)
        guard volumeName.starts(with: Self.prefix), let digit = digits.first, ("0"..."7").contains(Character(UnicodeScalar(digit))) else {
            self = []
            return
        }
        self.init(rawValue: digit - UInt8(ascii: "0"))
    }
}

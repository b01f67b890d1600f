/// Gives an image's volume and directories one time: libarchive takes those of the volume and the root directory from the clock.
///
/// Places are those of ECMA-119 (sections 8.4, 8.5, 9.1) and of the Rock Ridge Interchange Protocol (RRIP 1.12, 4.1.6). The image is
/// libarchive's own, of few directories.
struct ISOTimes {
    /// 2000-01-01 00:00:00 UTC.
    static let epoch = 946_684_800
    /// The same as a directory record has it: years since 1900, month, day, hour, minute, second, zone.
    private static let short: [UInt8] = [100, 1, 1, 0, 0, 0, 0]
    /// The same as a volume descriptor has it: digits, then the zone.
    private static let long = Array("2000010100000000".utf8) + [0]
    private static let sector = 2048

    private var image: [UInt8]
    private var seen: Set<Int> = []

    static func cleared(_ image: [UInt8]) -> [UInt8] {
        var times = ISOTimes(image: image)
        // Descriptors begin at sector 16; type 255 ends them, 1 and 2 are the primary one and Joliet's.
        var offset = 16 * sector
        while offset + sector <= image.count, image[offset] != 255 {
            if image[offset] == 1 || image[offset] == 2 {
                // Creation, modification and effective date; the expiration is unset.
                for place in [813, 830, 864] { times.put(long, at: offset + place) }
                times.record(at: offset + 156)
                times.directory(of: offset + 156)
            }
            offset += sector
        }
        // Behind the last descriptor is one of libarchive's own, with the time as ctime(3) has it.
        let version = offset + sector
        if version + 29 <= image.count, image[version..<version + 5].elementsEqual("INFO ".utf8) {
            times.put(Array("Sat Jan  1 00:00:00 2000".utf8), at: version + 5)
        }
        return times.image
    }

    private init(image: [UInt8]) { self.image = image }

    private func number(at offset: Int) -> Int {
        (0..<4).reduce(0) { $0 | Int(image[offset + $1]) << (8 * $1) }
    }

    private mutating func put(_ bytes: [UInt8], at offset: Int) {
        guard offset + bytes.count <= image.count else { return }
        image.replaceSubrange(offset..<offset + bytes.count, with: bytes)
    }

    private mutating func directory(of record: Int) {
        let start = number(at: record + 2) * Self.sector
        let end = start + number(at: record + 10)
        guard end <= image.count, seen.insert(start).inserted else { return }
        var offset = start
        while offset < end {
            let length = Int(image[offset])
            guard length >= 34, offset + length <= end else {
                // Records do not cross sectors; what is left of one is zeros.
                offset = (offset / Self.sector + 1) * Self.sector
                continue
            }
            self.record(at: offset)
            let isSelfOrParent = image[offset + 32] == 1 && image[offset + 33] <= 1
            if image[offset + 25] & 2 != 0, !isSelfOrParent { directory(of: offset) }
            offset += length
        }
    }

    private mutating func record(at offset: Int) {
        put(Self.short, at: offset + 18)
        let end = offset + Int(image[offset])
        let name = Int(image[offset + 32])
        // A name of even length is followed by a byte of padding.
        var field = offset + 33 + name + (name.isMultiple(of: 2) ? 1 : 0)
        while field + 4 < end, end <= image.count {
            let length = Int(image[field + 2])
            guard length >= 4, field + length <= end else { return }
            // TF: flags, then times; the highest flag would say that they are long.
            if image[field] == UInt8(ascii: "T"), image[field + 1] == UInt8(ascii: "F"), image[field + 4] & 0x80 == 0 {
                for time in stride(from: field + 5, to: field + length - 6, by: 7) { put(Self.short, at: time) }
            }
            field += length
        }
    }
}

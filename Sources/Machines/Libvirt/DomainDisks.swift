/// The disks of a running domain, as its XML tells.
struct DomainDisks {
    struct Entry: Equatable {
        var serial = ""
        /// libvirt's name: sda and so on.
        var target = ""
        var bus = ""
        /// The SCSI unit; nil for a disk on another bus.
        var unit: Int?
        /// The `<disk>` element as libvirt wrote it, which unplugging takes back.
        var xml = ""
    }

    private(set) var entries: [Entry] = []

    /// Reads what libvirt writes: it generates the text itself, one well-formed element after the other.
    init(liveXML: String) {
        var rest = liveXML[...]
        while let start = rest.firstRange(of: "<disk "), let end = rest[start.upperBound...].firstRange(of: "</disk>") {
            let element = rest[start.lowerBound..<end.upperBound]
            var entry = Entry(xml: String(element))
            entry.serial = Self.text(of: "serial", in: element)
            entry.target = Self.attribute("dev", of: "target", in: element)
            entry.bus = Self.attribute("bus", of: "target", in: element)
            entry.unit = entry.bus == "scsi" ? Int(Self.attribute("unit", of: "address", in: element)) : nil
            entries.append(entry)
            rest = rest[end.upperBound...]
        }
    }

    subscript(serial: String) -> Entry? { entries.first { $0.serial == serial } }

    /// The lowest SCSI unit that is free; nil when all are taken.
    var freeUnit: Int? {
        let used = Set(entries.compactMap(\.unit))
        return (0..<VMSpec.mostDisks).first { !used.contains($0) }
    }

    private static func text(of tag: String, in element: Substring) -> String {
        guard let start = element.firstRange(of: "<\(tag)>"), let end = element[start.upperBound...].firstRange(of: "</\(tag)>") else {
            return ""
        }
        return String(element[start.upperBound..<end.lowerBound])
    }

    private static func attribute(_ name: String, of tag: String, in element: Substring) -> String {
        guard let start = element.firstRange(of: "<\(tag) "), let end = element[start.upperBound...].firstRange(of: ">"),
            let value = element[start.upperBound..<end.lowerBound].firstRange(of: "\(name)='")
        else { return "" }
        return String(element[value.upperBound...].prefix { $0 != "'" })
    }
}

/// The memory of a running domain, as its XML tells.
struct DomainMemory: Equatable {
    /// Bytes that the machine was started with.
    var base: UInt64 = 0
    /// Bytes that the machine can have in all; 0 for one that cannot grow.
    var maximum: UInt64 = 0
    /// The device that memory is plugged into.
    var device: Device?

    struct Device: Equatable {
        /// Bytes: the device's room, what was asked for, and what the guest has taken.
        var size: UInt64
        var requested: UInt64
        var current: UInt64
        /// The `<memory>` element as libvirt wrote it.
        var xml: String

        /// The element with another request, for updating the device.
        func requesting(_ bytes: UInt64) -> String {
            guard let old = DomainMemory.element("requested", in: xml[...]) else { return xml }
            return xml.replacing(old, with: "<requested unit='KiB'>\(bytes >> 10)</requested>", maxReplacements: 1)
        }
    }

    /// Reads what libvirt writes: it generates the text itself, all sizes in KiB.
    init(liveXML: String) {
        if let open = liveXML.firstRange(of: "<memory model='virtio-mem'"),
            let close = liveXML[open.upperBound...].firstRange(of: "</memory>")
        {
            let xml = liveXML[open.lowerBound..<close.upperBound]
            device = Device(
                size: Self.bytes("size", in: xml), requested: Self.bytes("requested", in: xml), current: Self.bytes("current", in: xml),
                xml: String(xml))
        }
        maximum = Self.bytes("maxMemory", in: liveXML[...])
        // The first one is the domain's; it counts the whole room of memory devices.
        let total = Self.bytes("memory", in: liveXML[...])
        base = total - min(total, device?.size ?? 0)
    }

    private static func element(_ tag: String, in text: Substring) -> Substring? {
        guard let open = text.firstRange(of: "<\(tag) "), let close = text[open.upperBound...].firstRange(of: "</\(tag)>") else {
            return nil
        }
        return text[open.lowerBound..<close.upperBound]
    }

    private static func bytes(_ tag: String, in text: Substring) -> UInt64 {
        guard let element = element(tag, in: text), let start = element.firstIndex(of: ">") else { return 0 }
        return (UInt64(element[element.index(after: start)...].prefix { $0.isNumber }) ?? 0) << 10
    }
}

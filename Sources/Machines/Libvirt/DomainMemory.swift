/// The memory of a running domain, as libvirt describes it.
struct DomainMemory: Equatable {
    /// Bytes that the machine was started with.
    var base: UInt64
    /// Bytes that the machine can have in all; 0 for one that cannot grow.
    var maximum: UInt64
    /// The device that memory is plugged into.
    var device: Device?

    struct Device: Equatable {
        /// The `<memory>` element as libvirt wrote it.
        var tag: XMLTag

        /// Bytes: the device's room, what was asked for, and what the guest has taken.
        var size: UInt64 { DomainMemory.bytes(tag["target"]?["size"]) }
        var requested: UInt64 { DomainMemory.bytes(tag["target"]?["requested"]) }
        var current: UInt64 { DomainMemory.bytes(tag["target"]?["current"]) }

        /// The element with another request, for updating the device.
        func requesting(_ bytes: UInt64) -> XMLTag {
            var result = tag
            for target in result.children.indices where result.children[target].name == "target" {
                for index in result.children[target].children.indices where result.children[target].children[index].name == "requested" {
                    result.children[target].children[index] = XMLTag("requested", ["unit": "KiB"], text: "\(bytes >> 10)")
                }
            }
            return result
        }
    }

    init(_ domain: XMLTag) {
        device = domain["devices"]?.all("memory").first { $0.attribute("model") == "virtio-mem" }.map { Device(tag: $0) }
        maximum = Self.bytes(domain["maxMemory"])
        // It counts the whole room of memory devices.
        let total = Self.bytes(domain["memory"])
        base = total - min(total, device?.size ?? 0)
    }

    /// libvirt writes all sizes in KiB.
    private static func bytes(_ tag: XMLTag?) -> UInt64 { (tag?.text.flatMap { UInt64($0) } ?? 0) << 10 }
}

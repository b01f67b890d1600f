/// The virtio-mem device that a machine's memory grows by. It is plugged in when a machine first grows: one that never does
/// pays nothing for it.
enum MemoryDevice {
    /// Bytes that are asked for at a time: x86 Linux adds memory in blocks of 128 MiB.
    static let step: UInt64 = 128 << 20
    /// Bytes that the device hands out at once: a huge page.
    private static let block: UInt64 = 2 << 20

    /// - Parameters:
    ///   - size: bytes of the whole room; a multiple of `step`.
    ///   - requested: bytes for the guest to take now.
    static func tag(size: UInt64, requested: UInt64) -> XMLTag {
        XMLTag(
            "memory", ["model": "virtio-mem", "access": "shared"],
            [
                XMLTag(
                    "target", [:],
                    [
                        kibibytes("size", size), XMLTag("node", text: "0"), kibibytes("block", block), kibibytes("requested", requested),
                    ])
            ])
    }

    private static func kibibytes(_ name: String, _ bytes: UInt64) -> XMLTag { XMLTag(name, ["unit": "KiB"], text: "\(bytes >> 10)") }
}

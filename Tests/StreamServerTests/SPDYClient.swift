import NIOCore
import StreamFrames

/// The frames of a client that may break every rule.
final class SPDYClient {
    private let deflater = HeaderDeflater()

    func open(_ id: UInt32, _ headers: KeyValuePairs<String, String>, end: Bool = false) -> [UInt8] {
        open(id, block: SPDYHeaderBlock.bytes(of: headers.map { ($0.key, $0.value) }), end: end)
    }

    /// - Parameter block: before compression.
    func open(_ id: UInt32, block: [UInt8], end: Bool = false) -> [UInt8] {
        let compressed = deflater.deflate(block)
        return frame(1, flags: end ? 1 : 0, bytes(id) + [0, 0, 0, 0, 0, 0] + compressed)
    }

    func data(_ id: UInt32, _ payload: [UInt8], end: Bool = false) -> [UInt8] {
        bytes(id) + bytes(UInt32(end ? 1 : 0) << 24 | UInt32(payload.count)) + payload
    }

    func settings(_ settings: [(id: UInt32, value: UInt32)]) -> [UInt8] {
        frame(4, bytes(UInt32(settings.count)) + settings.flatMap { bytes($0.id) + bytes($0.value) })
    }

    func windowUpdate(_ id: UInt32, _ delta: UInt32) -> [UInt8] { frame(9, bytes(id) + bytes(delta)) }

    func reset(_ id: UInt32) -> [UInt8] { frame(3, bytes(id) + [0, 0, 0, 5]) }

    func ping(_ id: UInt32) -> [UInt8] { frame(6, bytes(id)) }

    private func frame(_ type: UInt16, flags: UInt8 = 0, _ payload: [UInt8]) -> [UInt8] {
        [0x80, 3, UInt8(type >> 8), UInt8(type & 0xFF)] + bytes(UInt32(flags) << 24 | UInt32(payload.count)) + payload
    }

    private func bytes(_ number: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: number >> (24 - $0 * 8)) } }
}

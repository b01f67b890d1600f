/// Just enough of the protobuf wire format (protobuf.dev, "Encoding") for ttrpc's three envelope messages, so that their
/// payloads, of up to 4 MiB, are copied once, which SwiftProtobuf's `bytes` fields do several times, and so that this module needs
/// no Foundation. Nothing is allocated by lengths that are not there.
struct WireFieldReader {
    enum Value {
        case varint(UInt64)
        case bytes(ArraySlice<UInt8>)
        /// fixed32 and fixed64, which no envelope uses.
        case skipped
    }

    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

    /// What follows a well-formed field; the outer nil is the end, `.failure` means malformed.
    mutating func next() -> Result<(number: UInt64, value: Value), MalformedEnvelope>? {
        guard !rest.isEmpty else { return nil }
        guard let key = varint(), key >> 3 != 0 else { return .failure(MalformedEnvelope()) }
        switch key & 7 {
        case 0:
            guard let value = varint() else { return .failure(MalformedEnvelope()) }
            return .success((key >> 3, .varint(value)))
        case 1: return skip(8, number: key >> 3)
        case 2:
            guard let length = varint(), length <= UInt64(rest.count) else { return .failure(MalformedEnvelope()) }
            let bytes = rest.prefix(Int(length))
            rest = rest.dropFirst(Int(length))
            return .success((key >> 3, .bytes(bytes)))
        case 5: return skip(4, number: key >> 3)
        default: return .failure(MalformedEnvelope())
        }
    }

    private mutating func skip(_ length: Int, number: UInt64) -> Result<(number: UInt64, value: Value), MalformedEnvelope> {
        guard rest.count >= length else { return .failure(MalformedEnvelope()) }
        rest = rest.dropFirst(length)
        return .success((number, .skipped))
    }

    private mutating func varint() -> UInt64? {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard let byte = rest.popFirst() else { return nil }
            value |= UInt64(byte & 0x7f) << shift
            if byte & 0x80 == 0 { return value }
        }
        return nil
    }
}

struct MalformedEnvelope: Error {}

/// The writing half of ``WireFieldReader``. Default values are left out, as proto3 does.
struct WireFieldWriter {
    private(set) var bytes: [UInt8] = []

    mutating func reserve(_ count: Int) { bytes.reserveCapacity(count) }

    mutating func write(_ number: UInt64, varint value: UInt64) {
        guard value != 0 else { return }
        varint(number << 3)
        varint(value)
    }

    mutating func write(_ number: UInt64, bytes value: some Collection<UInt8>) {
        guard !value.isEmpty else { return }
        varint(number << 3 | 2)
        varint(UInt64(value.count))
        bytes.append(contentsOf: value)
    }

    private mutating func varint(_ value: UInt64) {
        var value = value
        while value >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: value) | 0x80)
            value >>= 7
        }
        bytes.append(UInt8(value))
    }
}

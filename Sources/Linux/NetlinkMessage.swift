import CLinux
import Glibc

/// The body of a netlink request while it is put together: fixed header, then attributes.
struct NetlinkBody {
    private(set) var bytes: [UInt8] = []

    init() {}

    init<Header: BitwiseCopyable>(_ header: Header) { append(header) }

    mutating func append<Value: BitwiseCopyable>(_ value: Value) {
        withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) }
        pad()
    }

    mutating func attribute(_ type: Int, bytes value: some Collection<UInt8>) {
        let length = UInt16(MemoryLayout<nlattr>.size + value.count)
        append(nlattr(nla_len: length, nla_type: UInt16(type)))
        bytes.append(contentsOf: value)
        pad()
    }

    mutating func attribute(_ type: Int, _ value: UInt32) {
        attribute(type, bytes: withUnsafeBytes(of: value) { Array($0) })
    }

    mutating func attribute<Value: BitwiseCopyable>(_ type: Int, structure value: Value) {
        attribute(type, bytes: withUnsafeBytes(of: value) { Array($0) })
    }

    /// A NUL-terminated string.
    mutating func attribute(_ type: Int, string value: String) {
        attribute(type, bytes: Array(value.utf8) + [0])
    }

    mutating func nest(_ type: Int, _ build: (inout NetlinkBody) -> Void) {
        var inner = NetlinkBody()
        build(&inner)
        attribute(type, bytes: inner.bytes)
    }

    /// NLMSG_ALIGN and RTA_ALIGN are both 4.
    private mutating func pad() {
        while bytes.count % 4 != 0 { bytes.append(0) }
    }
}

/// One message from the kernel.
struct NetlinkMessage {
    let type: UInt16
    let flags: UInt16
    let sequence: UInt32
    let payload: ArraySlice<UInt8>

    /// Splits one datagram; a message with an impossible length ends it.
    static func split(_ datagram: ArraySlice<UInt8>) -> [NetlinkMessage] {
        var messages: [NetlinkMessage] = []
        var rest = datagram
        let headerSize = MemoryLayout<nlmsghdr>.size
        while let header = load(nlmsghdr.self, from: rest) {
            let length = Int(header.nlmsg_len)
            guard length >= headerSize, length <= rest.count else { break }
            let payload = rest.dropFirst(headerSize).prefix(length - headerSize)
            messages.append(
                NetlinkMessage(type: header.nlmsg_type, flags: header.nlmsg_flags, sequence: header.nlmsg_seq, payload: payload))
            rest = rest.dropFirst((length + 3) & ~3)
        }
        return messages
    }

    /// The fixed header at the start of the payload, nil when it is too short.
    func header<Header: BitwiseCopyable>(_ type: Header.Type) -> Header? { Self.load(type, from: payload) }

    /// The attributes after a fixed header.
    func attributes<Header: BitwiseCopyable>(after type: Header.Type) -> NetlinkAttributes {
        NetlinkAttributes(payload.dropFirst((MemoryLayout<Header>.size + 3) & ~3))
    }

    static func load<Value: BitwiseCopyable>(_ type: Value.Type, from bytes: ArraySlice<UInt8>) -> Value? {
        guard bytes.count >= MemoryLayout<Value>.size else { return nil }
        return bytes.withUnsafeBytes { $0.loadUnaligned(as: type) }
    }
}

/// Attributes by type; of repeated ones the last.
struct NetlinkAttributes {
    private var values: [Int: ArraySlice<UInt8>] = [:]

    init(_ bytes: ArraySlice<UInt8>) {
        var rest = bytes
        let headerSize = MemoryLayout<nlattr>.size
        while let header = NetlinkMessage.load(nlattr.self, from: rest) {
            let length = Int(header.nla_len)
            guard length >= headerSize, length <= rest.count else { break }
            // The two upper bits are NLA_F_NESTED and NLA_F_NET_BYTEORDER.
            values[Int(header.nla_type & 0x3FFF)] = rest.dropFirst(headerSize).prefix(length - headerSize)
            rest = rest.dropFirst((length + 3) & ~3)
        }
    }

    func bytes(_ type: Int) -> ArraySlice<UInt8>? { values[type] }

    func uint32(_ type: Int) -> UInt32? { values[type].flatMap { NetlinkMessage.load(UInt32.self, from: $0) } }

    func string(_ type: Int) -> String? {
        values[type].map { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    func address(_ type: Int) -> IPAddress? { values[type].flatMap { IPAddress(bytes: $0) } }

    func nested(_ type: Int) -> NetlinkAttributes? { values[type].map { NetlinkAttributes($0) } }
}

import CLinux
import Errors
import Glibc

/// An IPv4 or IPv6 address in network byte order.
public struct IPAddress: Hashable, Sendable, CustomStringConvertible {
    /// Four bytes or sixteen.
    public let bytes: [UInt8]

    /// Nil unless `bytes` has 4 or 16 elements.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == 4 || bytes.count == 16 else { return nil }
        self.bytes = Array(bytes)
    }

    /// Dotted or colon form, as inet_pton(3) takes it; no zone, no prefix length.
    public init?(_ text: String) {
        var buffer = [UInt8](repeating: 0, count: 16)
        if inet_pton(AF_INET, text, &buffer) == 1 {
            bytes = Array(buffer.prefix(4))
        } else if inet_pton(AF_INET6, text, &buffer) == 1 {
            bytes = buffer
        } else {
            return nil
        }
    }

    public var isIPv6: Bool { bytes.count == 16 }

    /// fe80::/10 or 169.254.0.0/16.
    public var isLinkLocal: Bool {
        isIPv6 ? bytes[0] == 0xFE && bytes[1] & 0xC0 == 0x80 : bytes[0] == 169 && bytes[1] == 254
    }

    public var isUnspecified: Bool { bytes.allSatisfy { $0 == 0 } }

    public var isLoopback: Bool {
        isIPv6 ? bytes.dropLast().allSatisfy { $0 == 0 } && bytes[15] == 1 : bytes[0] == 127
    }

    /// ff00::/8 or 224.0.0.0/4.
    public var isMulticast: Bool { isIPv6 ? bytes[0] == 0xFF : bytes[0] & 0xF0 == 0xE0 }

    /// The IPv4 address in one of ::ffff:0:0/96 (RFC 4291) or 64:ff9b::/96 (RFC 6052); otherwise the address itself.
    public var unmapped: IPAddress {
        let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]
        let translated: [UInt8] = [0, 0x64, 0xFF, 0x9B, 0, 0, 0, 0, 0, 0, 0, 0]
        guard isIPv6, bytes.starts(with: mapped) || bytes.starts(with: translated) else { return self }
        return IPAddress(bytes: bytes.suffix(4)) ?? self
    }

    var family: UInt8 { UInt8(isIPv6 ? AF_INET6 : AF_INET) }

    public var description: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        inet_ntop(Int32(family), bytes, &text, socklen_t(text.count))
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// An address with a prefix length: what "10.88.0.5/16" says. Host bits are kept.
public struct IPPrefix: Hashable, Sendable, CustomStringConvertible {
    public let address: IPAddress
    /// Bits: 0...32 or 0...128.
    public let length: Int

    public init?(address: IPAddress, length: Int) {
        guard (0...address.bytes.count * 8).contains(length) else { return nil }
        self.address = address
        self.length = length
    }

    /// CIDR form; a bare address is a host prefix (/32 or /128).
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard let address = parts.first.flatMap({ IPAddress(String($0)) }) else { return nil }
        switch parts.count {
        case 1: self.init(address: address, length: address.bytes.count * 8)
        case 2:
            guard parts[1].utf8.first != UInt8(ascii: "+"), let length = Int(parts[1]) else { return nil }
            self.init(address: address, length: length)
        default: return nil
        }
    }

    /// 0.0.0.0/0 or ::/0.
    public static func defaultRoute(ipv6: Bool) -> IPPrefix {
        IPPrefix(address: ipv6 ? .anyIPv6 : .anyIPv4, unchecked: 0)
    }

    public var isDefault: Bool { length == 0 }

    /// The address with its host bits cleared.
    public var network: IPAddress {
        let bytes = address.bytes.enumerated().map { index, byte in
            let kept = min(max(length - index * 8, 0), 8)
            return byte & UInt8(truncatingIfNeeded: 0xFF00 >> kept)
        }
        return IPAddress(raw: bytes)
    }

    private init(address: IPAddress, unchecked length: Int) {
        self.address = address
        self.length = length
    }

    public var description: String { "\(address)/\(length)" }
}

extension IPAddress {
    public static let anyIPv4 = IPAddress(raw: [UInt8](repeating: 0, count: 4))
    public static let anyIPv6 = IPAddress(raw: [UInt8](repeating: 0, count: 16))

    fileprivate init(raw: [UInt8]) { bytes = raw }
}

/// A link-layer address of six bytes.
public struct MACAddress: Hashable, Sendable, CustomStringConvertible {
    public let bytes: [UInt8]

    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == 6 else { return nil }
        self.bytes = Array(bytes)
    }

    /// Six hexadecimal pairs with colons between.
    public init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        let bytes = parts.compactMap { $0.count == 2 && $0.first != "+" ? UInt8($0, radix: 16) : nil }
        guard parts.count == 6, bytes.count == 6 else { return nil }
        self.bytes = bytes
    }

    public var description: String {
        bytes.map { byte in
            let text = String(byte, radix: 16)
            return byte < 16 ? "0" + text : text
        }.joined(separator: ":")
    }
}

import Crypto
import Errors

/// A content digest, `sha256:` and 64 lower-case hexadecimal digits: the one algorithm registries use.
public struct Digest: Sendable, Hashable, CustomStringConvertible {
    public let hex: String

    /// - Throws: `SwiftletError(.invalidArgument)` naming what is wrong with `text`.
    public init(_ text: String) throws {
        guard text.utf8.count <= 256 else {
            throw SwiftletError(.invalidArgument, "digest of \(text.utf8.count) characters: sha256 and 64 hexadecimal digits expected")
        }
        guard text.hasPrefix("sha256:") else {
            throw SwiftletError(.invalidArgument, "digest \"\(text)\": only sha256 is supported")
        }
        let hex = text.dropFirst("sha256:".count)
        guard hex.utf8.count == 64, hex.utf8.allSatisfy(\.isLowerHexDigit) else {
            throw SwiftletError(.invalidArgument, "digest \"\(text)\": sha256 takes 64 lower-case hexadecimal digits")
        }
        self.hex = String(hex)
    }

    /// The digest of bytes at hand.
    public init(of bytes: some Sequence<UInt8>) {
        var hash = SHA256()
        if bytes.withContiguousStorageIfAvailable({ hash.update(bufferPointer: UnsafeRawBufferPointer($0)) }) == nil {
            hash.update(data: Array(bytes))
        }
        self.init(hash.finalize())
    }

    init(_ digest: SHA256.Digest) {
        hex = Self.hex(digest)
    }

    public var description: String { "sha256:\(hex)" }

    private static func hex(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}

extension UInt8 {
    var isDigit: Bool { self >= UInt8(ascii: "0") && self <= UInt8(ascii: "9") }
    var isLowerLetter: Bool { self >= UInt8(ascii: "a") && self <= UInt8(ascii: "z") }
    var isUpperLetter: Bool { self >= UInt8(ascii: "A") && self <= UInt8(ascii: "Z") }
    var isLowerHexDigit: Bool { isDigit || (self >= UInt8(ascii: "a") && self <= UInt8(ascii: "f")) }
}

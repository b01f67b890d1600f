import Foundation
import NIOCore
import NIOFoundationCompat

/// Base64 with padding (RFC 4648, section 4).
enum Base64Text {
    static func encode(_ bytes: ByteBuffer) -> String { Data(buffer: bytes).base64EncodedString() }

    /// - Returns: nil for anything else. Foundation's decoder passes over much of it.
    static func decode(_ text: ByteBuffer) -> ByteBuffer? {
        guard text.readableBytes % 4 == 0 else { return nil }
        var result = ByteBuffer()
        result.reserveCapacity(text.readableBytes / 4 * 3)
        var (bits, count, padding): (UInt32, Int, Int) = (0, 0, 0)
        for character in text.readableBytesView {
            if character == UInt8(ascii: "=") {
                padding += 1
                guard padding <= 2 else { return nil }
                continue
            }
            guard padding == 0, let value = value(of: character) else { return nil }
            bits = bits << 6 | UInt32(value)
            count += 1
            guard count % 4 == 0 else { continue }
            result.writeMultipleIntegers(UInt8(truncatingIfNeeded: bits >> 16), UInt16(truncatingIfNeeded: bits))
        }
        switch (count % 4, padding) {
        case (0, 0): break
        case (2, 2): result.writeInteger(UInt8(truncatingIfNeeded: bits >> 4))
        case (3, 1): result.writeInteger(UInt16(truncatingIfNeeded: bits >> 2))
        default: return nil
        }
        return result
    }

    private static func value(of character: UInt8) -> UInt8? {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): character - UInt8(ascii: "A")
        case UInt8(ascii: "a")...UInt8(ascii: "z"): character - UInt8(ascii: "a") + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0") + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }
}

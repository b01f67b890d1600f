/// A device by its name of the Container Device Interface: `vendor.com/class=name`.
/// https://github.com/cncf-tags/container-device-interface/blob/v0.8.0/SPEC.md#kind
public struct CDIDevice: Codable, Sendable, Hashable {
    /// `vendor.com/class`
    public var kind: String
    public var name: String

    /// - Returns: nil for what is no qualified name.
    public init?(_ qualified: String) {
        guard let equals = qualified.firstIndex(of: "=") else { return nil }
        self.init(kind: String(qualified[..<equals]), name: String(qualified[qualified.index(after: equals)...]))
    }

    /// - Returns: nil for what is no kind, or no device's name.
    public init?(kind: String, name: String) {
        let parts = kind.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, Self.isVendor(parts[0]), Self.isClass(parts[1]), Self.isName(name) else { return nil }
        (self.kind, self.name) = (kind, name)
    }

    /// As clients name it.
    public var qualified: String { "\(kind)=\(name)" }

    private static func isLetter(_ byte: UInt8) -> Bool { (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) }
    private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }

    private static func isWord(_ text: Substring, from first: (UInt8) -> Bool, _ between: String) -> Bool {
        guard let start = text.utf8.first, let end = text.utf8.last, text.utf8.count <= 253 else { return false }
        return first(start) && (isLetter(end) || isDigit(end))
            && text.utf8.allSatisfy { isLetter($0) || isDigit($0) || between.utf8.contains($0) }
    }

    private static func isVendor(_ text: Substring) -> Bool { isWord(text, from: isLetter, "_-.") }
    private static func isClass(_ text: Substring) -> Bool { isWord(text, from: isLetter, "_-") }
    private static func isName(_ text: String) -> Bool { isWord(text[...], from: { isLetter($0) || isDigit($0) }, "_-.:") }
}

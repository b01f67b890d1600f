/// An absolute path in the guest, other than the root, as it may stand in a script: without ".", "..", empty parts and control characters.
struct GuestPath: Sendable, Equatable {
    let text: String

    init?(_ text: String) {
        let parts = text.split(separator: "/")
        guard text.hasPrefix("/"), !parts.isEmpty, text.utf8.count <= 4095, !parts.contains(".."),
            !parts.contains(where: { $0.utf8.count > 255 }),
            text.unicodeScalars.allSatisfy({ $0.properties.generalCategory != .control && $0.value != 0x2028 && $0.value != 0x2029 })
        else { return nil }
        self.text = "/" + parts.filter { $0 != "." }.joined(separator: "/")
        guard self.text != "/" else { return nil }
    }
}

/// Text from outside (a client, a guest, an image, a registry) as it may stand in a message, a log or a terminal.
///
/// What could forge a line, move the cursor or turn the direction of writing becomes "?": control characters (C0, DEL, C1), the line
/// and paragraph separators, and the bidirectional controls (Unicode Standard Annex #9).
///
/// - Parameter limit: Unicode scalars that are kept at most; "…" stands for what is cut.
public func printable(_ text: String, limit: Int = 128) -> String {
    let scalars = text.unicodeScalars
    let kept = scalars.prefix(limit)
    let isCut = kept.endIndex < scalars.endIndex
    guard isCut || kept.contains(where: \.isUnprintable) else { return text }
    var result = String(String.UnicodeScalarView(kept.map { $0.isUnprintable ? "?" : $0 }))
    if isCut { result += "…" }
    return result
}

/// Lines of text from outside, as tools print them, as one printable line.
public func oneLine(_ text: String, limit: Int = 8192) -> String {
    guard text.utf8.contains(where: { $0 == 0x0A || $0 == 0x0D }) else { return printable(text, limit: limit) }
    return printable(text.prefix(limit).split(whereSeparator: \.isNewline).joined(separator: "; "), limit: limit)
}

/// Text from outside in quotes, printable and cut at 80 Unicode scalars, for error messages.
public func quoted(_ text: String) -> String {
    "\"\(printable(text, limit: 80))\""
}

extension Unicode.Scalar {
    fileprivate var isUnprintable: Bool {
        switch value {
        case 0x00...0x1F, 0x7F...0x9F: true
        case 0x2028, 0x2029: true
        case 0x061C, 0x200E, 0x200F, 0x202A...0x202E, 0x2066...0x2069: true
        default: false
        }
    }
}

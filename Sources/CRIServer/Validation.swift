import Errors

/// Checks of what clients send, before any of it reaches a path, a statement or a document.
enum Validation {
    /// Longest name: Kubernetes allows 253 (RFC 1123 subdomain); the CRI itself sets no limit.
    static let maximumNameLength = 253

    /// A name that may become part of a path or a key.
    static func name(_ text: String, _ field: String) throws {
        guard !text.isEmpty else { throw SwiftletError(.invalidArgument, "\(field) is missing") }
        guard text.utf8.count <= maximumNameLength else {
            throw SwiftletError(.invalidArgument, "\(field) has \(text.utf8.count) bytes; at most \(maximumNameLength) are allowed")
        }
        guard !text.contains("/"), text != ".", text != "..", !text.unicodeScalars.contains(where: isControl) else {
            throw SwiftletError(.invalidArgument, "\(field) \(quoted(text)) contains \"/\" or control characters, or is a dot name")
        }
    }

    /// RFC 1123 labels joined by dots, 64 bytes at most (HOST_NAME_MAX); may be empty.
    static func hostname(_ text: String, _ field: String) throws {
        let labels = text.split(separator: ".", omittingEmptySubsequences: false)
        let fits = labels.allSatisfy { label in
            !label.isEmpty && label.first != "-" && label.last != "-"
                && label.unicodeScalars.allSatisfy { $0.isASCII && ($0.properties.isAlphabetic || ("0"..."9").contains($0) || $0 == "-") }
        }
        guard text.isEmpty || (text.utf8.count <= 64 && fits) else {
            throw SwiftletError(.invalidArgument, "\(field) \(quoted(text)) is not a host name of at most 64 bytes (RFC 1123)")
        }
    }

    /// A value without white space or control characters, 4096 bytes at most; may be empty.
    static func word(_ text: String, _ field: String) throws {
        guard text.utf8.count <= 4096, !text.unicodeScalars.contains(where: { isControl($0) || $0.properties.isWhitespace }) else {
            throw SwiftletError(.invalidArgument, "\(field): \(quoted(text)) is too long or contains white space or control characters")
        }
    }

    /// A value without control characters, 4096 bytes at most; may be empty.
    static func text(_ text: String, _ field: String) throws {
        guard text.utf8.count <= 4096, !text.unicodeScalars.contains(where: { isControl($0) && $0 != "\t" }) else {
            throw SwiftletError(.invalidArgument, "\(field): \(quoted(text)) is too long or contains control characters")
        }
    }

    /// The error does not quote the text, which may be a secret.
    static func noNUL(_ text: String, _ field: String) throws {
        guard !text.utf8.contains(0) else { throw SwiftletError(.invalidArgument, "\(field) contains a NUL") }
    }

    /// An absolute path without "..", PATH_MAX at most.
    ///
    /// - Parameter mayBeSlice: also accepts a systemd slice name, which has no slash at all.
    static func absolutePath(_ path: String, _ field: String, mayBeEmpty: Bool = false, mayBeSlice: Bool = false) throws {
        if path.isEmpty, mayBeEmpty { return }
        try checkPath(path, field)
        guard path.hasPrefix("/") || (mayBeSlice && path.hasSuffix(".slice") && !path.contains("/")) else {
            throw SwiftletError(.invalidArgument, "\(field) \(quoted(path)) is not an absolute path")
        }
    }

    /// A path below a directory, without ".."; may be empty.
    static func relativePath(_ path: String, _ field: String) throws {
        if path.isEmpty { return }
        try checkPath(path, field)
        guard !path.hasPrefix("/"), !path.hasSuffix("/") else {
            throw SwiftletError(.invalidArgument, "\(field) \(quoted(path)) is not the relative path of a file")
        }
    }

    private static func checkPath(_ path: String, _ field: String) throws {
        guard path.utf8.count < 4096, !path.unicodeScalars.contains(where: isControl) else {
            throw SwiftletError(.invalidArgument, "\(field) \(quoted(path)) is too long or contains control characters")
        }
        guard !path.split(separator: "/").contains("..") else {
            throw SwiftletError(.invalidArgument, "\(field) \(quoted(path)) contains \"..\"")
        }
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.properties.generalCategory == .control
    }
}

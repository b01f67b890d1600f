import Errors

/// The name of an image, normalised as Docker and containerd do: `busybox` is `docker.io/library/busybox:latest`.
///
/// The grammar is that of the distribution project's reference package.
public struct ImageReference: Sendable, Hashable, CustomStringConvertible {
    /// Registry, with its port if the reference gave one: `docker.io`, `localhost:5000`, `[::1]:5000`.
    public let host: String
    /// Repository without the host: `library/busybox`.
    public let path: String
    public let tag: String?
    public let digest: Digest?

    /// Host and path: what the grammar calls the name, 255 characters at most.
    public var name: String { "\(host)/\(path)" }

    /// `name@digest` when there is a digest (a tag beside it is only a remark), else `name:tag`.
    public var description: String {
        if let digest { return "\(name)@\(digest)" }
        return "\(name):\(tag ?? Self.defaultTag)"
    }

    static let defaultTag = "latest"
    static let defaultHost = "docker.io"
    private static let maximumNameLength = 255
    private static let maximumTagLength = 128

    public init(host: String, path: String, tag: String? = nil, digest: Digest? = nil) {
        self.host = host
        self.path = path
        self.tag = tag
        self.digest = digest
    }

    /// - Throws: `SwiftletError(.invalidArgument)` naming the part of the reference that is wrong.
    public init(_ text: String) throws {
        let shown = text.utf8.count > 300 ? "\(text.prefix(60))…" : text
        func invalid(_ problem: String) -> SwiftletError {
            SwiftletError(.invalidArgument, "image reference \"\(shown.filter { $0 >= " " })\": \(problem)")
        }
        guard !text.isEmpty else { throw invalid("it is empty") }
        guard text.utf8.count <= 1024 else { throw invalid("\(text.utf8.count) characters are too many") }
        guard !(text.utf8.count == 64 && text.utf8.allSatisfy(\.isLowerHexDigit)) else {
            throw invalid("64 hexadecimal digits are an image id, not a name")
        }

        var rest = Substring(text)
        var digest: Digest?
        if let at = rest.firstIndex(of: "@") {
            do { digest = try Digest(String(rest[rest.index(after: at)...])) } catch {
                throw invalid((error as? SwiftletError)?.message ?? "bad digest")
            }
            rest = rest[..<at]
        }
        var tag: String?
        if let colon = rest.lastIndex(of: ":"), !rest[colon...].contains("/") {
            let candidate = rest[rest.index(after: colon)...]
            guard Self.isTag(candidate) else {
                throw invalid(
                    "tag \"\(candidate.prefix(140))\" must be 1 to \(Self.maximumTagLength) of [A-Za-z0-9_.-] and not begin with . or -")
            }
            tag = String(candidate)
            rest = rest[..<colon]
        }

        var host = Self.defaultHost
        if let slash = rest.firstIndex(of: "/"), Self.looksLikeHost(rest[..<slash]) {
            host = String(rest[..<slash])
            rest = rest[rest.index(after: slash)...]
            guard Self.isHost(host) else { throw invalid("\"\(host)\" is not a registry host") }
            if host == "index.docker.io" { host = Self.defaultHost }
        }
        guard !rest.isEmpty else { throw invalid("the repository is missing") }
        let path = host == Self.defaultHost && !rest.contains("/") ? "library/\(rest)" : String(rest)
        for part in path.split(separator: "/", omittingEmptySubsequences: false) where !Self.isPathComponent(part) {
            throw invalid(
                "repository part \"\(part)\" must be lower-case letters and digits, with single ., one or two _ or any - between them")
        }
        guard host.utf8.count + 1 + path.utf8.count <= Self.maximumNameLength else {
            throw invalid("the name is longer than \(Self.maximumNameLength) characters")
        }
        self.init(host: host, path: path, tag: tag ?? (digest == nil ? Self.defaultTag : nil), digest: digest)
    }

    /// The name of the repository that `text` names alone, without a tag or digest; nil for anything else.
    static func repository(_ text: String) -> String? {
        guard !text.contains("@"), !text[(text.lastIndex(of: "/") ?? text.startIndex)...].contains(":") else { return nil }
        return (try? ImageReference(text))?.name
    }

    private static func isTag(_ text: Substring) -> Bool {
        guard let first = text.utf8.first, text.utf8.count <= maximumTagLength else { return false }
        guard first != UInt8(ascii: "."), first != UInt8(ascii: "-") else { return false }
        return text.utf8.allSatisfy { $0.isDigit || $0.isLowerLetter || $0.isUpperLetter || "_.-".utf8.contains($0) }
    }

    /// The first part is a host when it could not be a repository: it has a dot, a port or a capital, or is `localhost`.
    private static func looksLikeHost(_ text: Substring) -> Bool {
        text == "localhost" || text.utf8.contains { $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: ":") || $0.isUpperLetter }
    }

    private static func isHost(_ text: String) -> Bool {
        let (name, port) = splitPort(text)
        if let port {
            guard let number = Int(port), (1...65535).contains(number), port.utf8.allSatisfy(\.isDigit) else { return false }
        }
        if name.hasPrefix("["), name.hasSuffix("]") {
            let address = name.dropFirst().dropLast()
            return !address.isEmpty
                && address.utf8.allSatisfy { $0 == UInt8(ascii: ":") || $0.isDigit || UInt8(ascii: "a")...UInt8(ascii: "f") ~= $0 | 0x20 }
        }
        return name.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
            guard let first = label.utf8.first, let last = label.utf8.last else { return false }
            return first != UInt8(ascii: "-") && last != UInt8(ascii: "-")
                && label.utf8.allSatisfy { $0.isDigit || $0.isLowerLetter || $0.isUpperLetter || $0 == UInt8(ascii: "-") }
        }
    }

    /// Splits `host:port`; the colons inside `[…]` belong to the address.
    static func splitPort(_ text: String) -> (host: Substring, port: Substring?) {
        let search = text.lastIndex(of: "]") ?? text.startIndex
        guard let colon = text[search...].lastIndex(of: ":") else { return (text[...], nil) }
        return (text[..<colon], text[text.index(after: colon)...])
    }

    /// alpha-numeric ( separator alpha-numeric )*, separator one of `.`, `_`, `__`, or any number of `-`.
    private static func isPathComponent(_ text: Substring) -> Bool {
        var separator: [UInt8] = []
        var seenAlphanumeric = false
        for byte in text.utf8 {
            if byte.isDigit || byte.isLowerLetter {
                let allowed =
                    separator.isEmpty || separator == Array(".".utf8) || separator == Array("_".utf8) || separator == Array("__".utf8)
                    || separator.allSatisfy { $0 == UInt8(ascii: "-") }
                guard allowed, seenAlphanumeric || separator.isEmpty else { return false }
                seenAlphanumeric = true
                separator = []
            } else if byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "-") {
                separator.append(byte)
            } else {
                return false
            }
        }
        return seenAlphanumeric && separator.isEmpty
    }
}

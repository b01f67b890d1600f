import ArgumentParser
import Linux

/// A port of a pod and the local one that stands for it: "80", "8080:80", ":80".
struct ForwardedPort: Equatable, Sendable {
    /// 0: one that is free.
    let local: UInt16
    let remote: UInt16

    /// - Throws: `ValidationError` saying what is wrong.
    init(parsing text: String) throws {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count <= 2, let last = parts.last else {
            throw ValidationError("\(text) is no port: write [LOCAL:]REMOTE, as 8080:80")
        }
        remote = try Self.number(last, of: "the pod's port", in: text, least: 1)
        if parts.count == 1 {
            local = remote
        } else {
            local = parts[0].isEmpty ? 0 : try Self.number(parts[0], of: "the local port", in: text, least: 0)
        }
    }

    private static func number(_ digits: Substring, of what: String, in text: String, least: Int) throws -> UInt16 {
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = UInt16(digits), number >= least else {
            throw ValidationError(
                "\(text): \(what) has to be a number from \(least) to 65535, not \(digits.isEmpty ? "nothing" : "\(digits)")")
        }
        return number
    }
}

/// Where local ports are listened on.
struct ListenAddress: Equatable, Sendable {
    /// IP addresses; of several, those that can be listened on are enough.
    let alternatives: [String]

    /// - Parameter text: "localhost" or IP addresses, with commas between them.
    /// - Throws: `ValidationError` for what is neither.
    static func parse(_ text: String) throws -> [ListenAddress] {
        try text.split(separator: ",", omittingEmptySubsequences: false).map { word in
            if word == "localhost" { return ListenAddress(alternatives: ["127.0.0.1", "::1"]) }
            guard IPAddress(String(word)) != nil else {
                throw ValidationError("--address \(text): \(word.isEmpty ? "nothing" : "\(word)") is neither an IP address nor localhost")
            }
            return ListenAddress(alternatives: [String(word)])
        }
    }
}

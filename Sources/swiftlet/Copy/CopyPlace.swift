import ArgumentParser

/// One side of `swiftlet cp`: `CONTAINER:PATH` or `POD/CONTAINER:PATH`, a path of this machine, or `-` for a tar archive on a standard stream.
enum CopyPlace: ExpressibleByArgument, Equatable, Sendable {
    case container(String, path: String)
    case local(String)
    case stream

    /// A path with a colon in it is one of this machine where it begins with a slash or a dot, or has two slashes before the colon: `./a:b`.
    init?(argument: String) {
        guard !argument.isEmpty else { return nil }
        if argument == "-" {
            self = .stream
        } else if let colon = argument.firstIndex(of: ":"), Self.isName(argument[..<colon]) {
            let path = argument[argument.index(after: colon)...]
            guard !path.isEmpty else { return nil }
            self = .container(String(argument[..<colon]), path: String(path))
        } else if argument.first == ":" {
            return nil
        } else {
            self = .local(argument)
        }
    }

    private static func isName(_ text: Substring) -> Bool {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        return parts.count <= 2 && text.first != "." && parts.allSatisfy { !$0.isEmpty }
    }
}

/// A path as the directory and the name in it that tar is told.
struct SplitPath: Equatable, Sendable {
    let directory: String
    /// `.` for the contents of `directory`: the path ends so, or is a root.
    let name: String
    /// Written with a slash at its end: it has to be a directory.
    let endsWithSlash: Bool

    /// - Parameter root: what a relative path begins at.
    init(_ path: String, root: String = ".") {
        // By bytes: a character may begin with a slash.
        var parts = path.utf8.split(separator: UInt8(ascii: "/")).map { String(Substring($0)) }
        let isAbsolute = path.utf8.first == UInt8(ascii: "/")
        endsWithSlash = path.utf8.last == UInt8(ascii: "/")
        // What has no name of its own is copied by its contents.
        let last = parts.last ?? "."
        if last == "." || last == ".." {
            if last == "." && !parts.isEmpty { parts.removeLast() }
            name = "."
        } else {
            parts.removeLast()
            name = last
        }
        let joined = parts.joined(separator: "/")
        directory = isAbsolute ? "/" + joined : joined.isEmpty ? root : joined
    }
}

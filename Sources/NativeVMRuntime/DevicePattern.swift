import Glibc

/// Which devices of the node pods may have.
enum DevicePattern {
    /// Whether the path, or that which its links lead to, matches a pattern: a kubelet's block volumes are links. Blocks.
    static func allows(_ path: String, _ patterns: [String]) -> Bool {
        var names = [path]
        if let resolved = realpath(path, nil) {
            names = [String(cString: resolved)]
            free(resolved)
            // A link's own name says nothing of what is behind it, unless the administrator names links.
            if path.hasPrefix("/dev/") { names.append(path) }
        }
        return patterns.contains { pattern in names.contains { fnmatch(pattern, $0, FNM_PATHNAME | FNM_PERIOD) == 0 } }
    }
}

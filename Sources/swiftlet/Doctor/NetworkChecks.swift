import FoundationEssentials

/// CNI: the plugins and the configuration that pods get.
enum NetworkChecks {
    private struct Configuration: Decodable {
        struct Plugin: Decodable {
            var type: String
        }
        var name: String?
        var type: String?
        var plugins: [Plugin]?
    }

    /// - Parameter plugins: directories of programs; the first that has one counts.
    static func cni(_ node: some Node, configurations: String, plugins: [String]) -> Finding {
        let install = "apt-get install containernetworking-plugins"
        let present = Set(plugins.flatMap { node.entries($0) ?? [] })
        guard !present.isEmpty else {
            return .fail("cni", "no plugins in \(plugins.joined(separator: " or "))", install)
        }
        // The first by name counts, as for other runtimes.
        let files = (node.entries(configurations) ?? []).filter { name in
            [".conflist", ".conf", ".json"].contains { name.hasSuffix($0) }
        }
        guard let file = files.first else {
            return .fail(
                "cni", "no configuration in \(configurations); pods get no addresses",
                "install a network add-on, or write \(configurations)/10-swiftlet.conflist with the plugins bridge and portmap")
        }
        let path = "\(configurations)/\(file)"
        guard let text = node.text(path), let parsed = try? JSONDecoder().decode(Configuration.self, from: Data(text.utf8)) else {
            return .fail("cni", "\(path) is not a CNI configuration", "correct it: a JSON object with name, cniVersion and plugins")
        }
        let types = parsed.plugins?.map(\.type) ?? [parsed.type].compactMap(\.self)
        let missing = types.filter { !present.contains($0) }
        guard !types.isEmpty, missing.isEmpty else {
            return .fail(
                "cni",
                types.isEmpty ? "\(path) names no plugin" : "\(path) needs plugins that are missing: \(missing.joined(separator: ", "))",
                types.isEmpty ? "add plugins to it" : "\(install), or install what made this configuration")
        }
        return .ok("cni", "\(parsed.name ?? file) (\(path)): \(types.joined(separator: ", "))")
    }
}

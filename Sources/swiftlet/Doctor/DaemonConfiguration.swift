import FoundationEssentials

/// What doctor needs of swiftletd's configuration, as swiftletd itself reads it.
struct DaemonConfiguration: Decodable, Equatable, Sendable {
    struct Machine: Decodable, Equatable, Sendable {
        var kernel: String
        var initramfs: String
    }

    struct Network: Decodable, Equatable, Sendable {
        var configDirectory: String
        var pluginDirectories: [String]

        enum CodingKeys: String, CodingKey {
            case configDirectory = "cni_config_dir"
            case pluginDirectories = "cni_plugin_dirs"
        }
    }

    var endpoint: String
    var root: String
    var machine: Machine
    var network: Network

    /// Has swiftletd read its configuration, without starting it.
    ///
    /// - Parameter file: nil for the default one.
    static func read(_ file: String?, on node: some Node) async -> (finding: Finding, configuration: DaemonConfiguration?) {
        guard let program = node.program("swiftletd") else {
            return (.fail("configuration", "no swiftletd beside swiftlet or in $PATH", "make install"), nil)
        }
        let arguments = ["--print-config"] + (file.map { ["--config", $0] } ?? [])
        guard let end = await node.run(program, arguments) else {
            return (.fail("configuration", "\(program) --print-config does not end", "run it by hand and see what it waits for"), nil)
        }
        guard end.succeeded, let configuration = try? JSONDecoder().decode(Self.self, from: Data(end.output.utf8)) else {
            let reason = end.errors.split(whereSeparator: \.isNewline).first.map(String.init) ?? "\(program) --print-config fails"
            return (.fail("configuration", Terminal.oneLine(reason), "correct the file; swiftletd does not start with it"), nil)
        }
        return (.ok("configuration", "root \(configuration.root), \(configuration.endpoint)"), configuration)
    }
}

import CRIClient
import Foundation
import Testing

@testable import swiftletd

/// Directories and a configuration for a daemon whose hypervisor is libvirt's pretend one: it serves, and can boot nothing.
struct TestNode {
    let directory: String
    var configuration = Configuration()

    static func with(_ body: (TestNode) async throws -> Void) async throws {
        let node = try TestNode()
        defer { try? FileManager.default.removeItem(atPath: node.directory) }
        try await body(node)
    }

    private init() throws {
        directory = "/tmp/swiftletd-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        configuration.endpoint = "unix://\(directory)/swiftletd.sock"
        configuration.root = directory + "/root"
        configuration.run = directory + "/run"
        configuration.machine.libvirt = "test:///default"
        configuration.machine.accelerator = "tcg"
        configuration.machine.vsock = "vhost-user"
        configuration.machine.scratchSize = 1
        configuration.network.configDirectory = directory + "/net.d"
    }

    /// swiftletd as it was built with these tests.
    static func program() throws -> URL {
        let bundle = Bundle.main.bundleURL
        let candidates = [bundle, bundle.deletingLastPathComponent()].map { $0.appendingPathComponent("swiftletd") }
        return try #require(candidates.first { FileManager.default.isExecutableFile(atPath: $0.path) }, "swiftletd is not built")
    }

    func connection() throws -> CRIConnection { try CRIConnection(endpoint: configuration.endpoint) }

    /// The configuration as a file.
    func file() throws -> String {
        let text = """
            endpoint = "\(configuration.endpoint)"
            root = "\(configuration.root)"
            run = "\(configuration.run)"
            [machine]
            libvirt = "test:///default"
            accelerator = "tcg"
            vsock = "vhost-user"
            scratch_size_gib = 1
            [network]
            cni_config_dir = "\(configuration.network.configDirectory)"
            """
        try text.write(toFile: directory + "/swiftletd.toml", atomically: true, encoding: .utf8)
        return directory + "/swiftletd.toml"
    }
}

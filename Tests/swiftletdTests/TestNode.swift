import CRIClient
import Foundation
import Support
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
        let users = PodUserIDs()
        (configuration.machine.firstPodUID, configuration.machine.podUIDs) = (users.first, users.count)
        configuration.network.configDirectory = directory + "/net.d"
    }

    /// swiftletd as it was built with these tests.
    static func program() throws -> URL {
        let bundle = Bundle.main.bundleURL
        let candidates = [bundle, bundle.deletingLastPathComponent()].map { $0.appendingPathComponent("swiftletd") }
        return try #require(candidates.first { FileManager.default.isExecutableFile(atPath: $0.path) }, "swiftletd is not built")
    }

    func connection() throws -> CRIConnection { try CRIConnection(endpoint: configuration.endpoint) }

    /// swiftletd as a process of its own, in a network and a mount namespace that go with it.
    ///
    /// - Parameters:
    ///   - metrics: the address that it serves them at; empty for none.
    ///   - wrapper: a command that executes the program.
    func launch(metrics: String = "", under wrapper: [String] = [], environment: [String: String] = [:]) throws -> RunningDaemon {
        let process = ChildProcess()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/unshare")
        process.arguments = ["--net", "--mount"] + wrapper + [try Self.program().path, "--config", try file(metrics: metrics)]
        process.environment = environment.merging(["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"]) { own, _ in own }
        let log = directory + "/swiftletd.log"
        _ = FileManager.default.createFile(atPath: log, contents: nil)
        process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: log))
        try process.run()
        return RunningDaemon(process: process, log: log)
    }

    /// The configuration as a file.
    private func file(metrics: String) throws -> String {
        let text = """
            endpoint = "\(configuration.endpoint)"
            root = "\(configuration.root)"
            run = "\(configuration.run)"
            [machine]
            libvirt = "test:///default"
            accelerator = "tcg"
            vsock = "vhost-user"
            scratch_size_gib = 1
            pod_uid_first = \(configuration.machine.firstPodUID)
            pod_uid_count = \(configuration.machine.podUIDs)
            [network]
            cni_config_dir = "\(configuration.network.configDirectory)"
            [metrics]
            address = "\(metrics)"
            """
        try text.write(toFile: directory + "/swiftletd.toml", atomically: true, encoding: .utf8)
        return directory + "/swiftletd.toml"
    }
}

/// swiftletd's process.
struct RunningDaemon {
    let process: ChildProcess
    let log: String

    var said: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }

    /// Whatever state it is in.
    func end() {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        process.waitUntilExit()
    }
}

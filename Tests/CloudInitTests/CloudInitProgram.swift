import Foundation
import Support
import Testing

/// cloud-init of Debian 12, unpacked by `scripts/setup --test` and not installed: its code, in a process of its own.
struct CloudInitProgram {
    struct Result {
        var status: Int32
        var output: String
        var errors: String
    }

    private static let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..").standardizedFileURL.path

    static func python(_ arguments: [String]) async throws -> Result {
        let packages = root + "/.build/cloud-init/usr/lib/python3/dist-packages"
        try #require(FileManager.default.fileExists(atPath: packages + "/cloudinit"), "scripts/setup --test unpacks cloud-init")
        return try await run("/usr/bin/python3", arguments, ["PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"])
    }

    static func run(_ program: String, _ arguments: [String], _ environment: [String: String] = [:]) async throws -> Result {
        let directory = NSTemporaryDirectory() + "cloud-init-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let command = try RunningCommand(
            program, arguments, environment: environment.merging(["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"]) { $1 }, in: directory)
        let status = await command.status()
        return Result(status: status, output: command.output, errors: command.errors)
    }

    /// What the network configuration becomes in the guest.
    static func rendered(_ contents: [UInt8], kind: String) async throws -> String {
        let directory = NSTemporaryDirectory() + "network-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try Data(contents).write(to: URL(filePath: directory + "/input"))
        let script = root + "/Tests/CloudInitTests/render_network.py"
        let result = try await python([script, kind, directory + "/input", directory + "/output"])
        #expect(result.status == 0, "\(result.errors)")
        return result.output
    }
}

/// Compares with Golden/NAME; with SWIFTLET_WRITE_GOLDEN=1, writes it.
func expectGolden(_ text: String, _ name: String, _ location: SourceLocation = #_sourceLocation) throws {
    let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden/\(name)")
    if ProcessInfo.processInfo.environment["SWIFTLET_WRITE_GOLDEN"] == "1" { try Data(text.utf8).write(to: file) }
    let golden = try String(contentsOf: file, encoding: .utf8)
    #expect(text == golden, "Golden/\(name)", sourceLocation: location)
}

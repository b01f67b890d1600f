import Foundation
import Testing

@testable import CloudInit

/// Seeds as cloud-init's own data sources read them.
@Suite(.timeLimit(.minutes(1))) final class DataSourceTests {
    private let directory = NSTemporaryDirectory() + "seed-\(UUID().uuidString)"

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    private func write(_ format: SeedFormat, to path: String) throws -> Seed {
        let request = try SeedSamples.full(["VirtletSSHKeys": "ssh-rsa AAA me", "VirtletCloudInitUserData": "runcmd: [[echo, a]]"])
        let seed = try Seed(request, format: format)
        for file in seed.files {
            let file = (path: "\(directory)/\(path)/\(file.path)", contents: file.contents)
            try FileManager.default.createDirectory(
                atPath: String(file.path[..<(file.path.lastIndex(of: "/") ?? file.path.startIndex)]), withIntermediateDirectories: true)
            try Data(file.contents).write(to: URL(filePath: file.path))
        }
        return seed
    }

    @Test func noCloudIsRead() async throws {
        let seed = try write(.noCloud, to: "cloud/seed/nocloud")
        let result = try await CloudInitProgram.python([
            "-c",
            """
            import json, sys
            from cloudinit import helpers
            from cloudinit.sources import DataSourceNoCloud
            d = sys.argv[1]
            paths = helpers.Paths({"cloud_dir": d + "/cloud", "run_dir": d + "/run", "templates_dir": d})
            source = DataSourceNoCloud.DataSourceNoCloud({"datasource": {"NoCloud": {"fs_label": None}}}, None, paths)
            found = source._get_data()
            print(json.dumps([found, source.get_instance_id(), source.metadata["local-hostname"], source.get_public_ssh_keys(),
                sorted(source.network_config["ethernets"]), source.get_userdata_raw().decode() if isinstance(source.get_userdata_raw(), bytes)
                else source.get_userdata_raw()]))
            message = source.get_vendordata()
            print([part.get_content_type() for part in message.walk() if not part.is_multipart()])
            """, directory,
        ])
        let userData = seed.files.first { $0.path == "user-data" }.map { String(decoding: $0.contents, as: UTF8.self) }
        let lines = result.output.split(separator: "\n").map(String.init)
        let values = try #require(
            lines.first.flatMap { try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [Any] }, "\(result.errors)")
        let expected: [Any] = [true, SeedSamples.pod.uid, "ubuntu-vm", ["ssh-rsa AAA me"], ["eth0", "net1"], userData ?? ""]
        #expect((values as NSArray) == (expected as NSArray), "\(result.output)")
        #expect(lines.last == "['text/cloud-boothook']", "\(result.output) \(result.errors)")
    }

    @Test func configDriveIsRead() async throws {
        _ = try write(.configDrive, to: "drive")
        let result = try await CloudInitProgram.python([
            "-c",
            """
            import json, sys
            from cloudinit import sources
            from cloudinit.sources import DataSourceConfigDrive
            read = DataSourceConfigDrive.read_config_drive(sys.argv[1] + "/drive")
            meta = read["metadata"]
            keys = sources.normalize_pubkey_data(meta["public_keys"])
            print(json.dumps([read["version"], meta["instance-id"], meta["local-hostname"], keys, len(read["networkdata"]["links"]),
                read["userdata"].decode(), sources.convert_vendordata(read["vendordata"]).startswith("#cloud-boothook")]))
            """, directory,
        ])
        let values = try #require(try? JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [Any], "\(result.errors)")
        let expected: [Any] = [
            2, SeedSamples.pod.uid, "ubuntu-vm", ["ssh-rsa AAA me"], 2, "#cloud-config\nruncmd: [[echo, a]]", true,
        ]
        #expect((values as NSArray) == (expected as NSArray), "\(result.output)")
    }
}
